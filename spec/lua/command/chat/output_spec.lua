local core = require "parley.core"
local event = require "parley.claude.event"
local helper = require "spec.helper"
local output = require "parley.command.chat.output"

describe("output", function()
  local written, aside, out

  local function new(options)
    written, aside = {}, {}
    local all = {
      write = function(text) table.insert(written, text) end, aside = function(text) table.insert(aside, text) end,
      paint = function(_, text) return text end, columns = function() return 20 end, has_status = false,
    }
    for name, value in pairs(options or {}) do all[name] = value end
    return output.new(all)
  end

  before_each(function() out = new() end)

  it("writes answers and all else apart", function()
    out:event(event.new { type = "assistant", content = { { type = "text", text = "Done.\n\n" },
      { type = "tool_use", id = "1", name = "Read", input = { file_path = "/a/b" } } } })
    out:event(event.new { type = "user", content = { { type = "tool_result", tool_use_id = "1", content = "x" } } })
    assert.same({ "Done.\n" }, written)
    assert.same({ "[Read] /a/b\n", "  x\n" }, aside)
  end)

  it("describes a call by the field that says most, else by its input", function()
    assert.equal("[Grep] x+", output.describe_call { name = "Grep", input = { pattern = "x+", path = "src" } })
    assert.equal('[Odd] {"a":1}', output.describe_call { name = "Odd", input = { a = 1 } })
    assert.equal("[Nothing]", output.describe_call { name = "Nothing", input = {} })
  end)

  it("describes a result by its first line and what more there is", function()
    assert.equal("one", output.describe_result { content = "one\n" })
    assert.equal("one (+2 lines, 10 B)", output.describe_result { content = "one\n\nthree" })
    assert.equal("(nothing)", output.describe_result { content = "" })
    assert.equal("(nothing)", output.describe_result { content = core.json.null })
    assert.equal("(nothing)", output.describe_result { content = { "odd" } })
    assert.equal("image", output.describe_result { content = { { type = "image" } } })
    assert.equal("a (+1 line, 3.0 kB)",
      output.describe_result { content = { { type = "text", text = "a\n" .. ("b"):rep(2998) } } })
  end)

  it("cuts a tool call to one row of the terminal", function()
    out = new { has_status = true }
    out:event(event.new { type = "assistant", content = { { type = "tool_use", name = "Bash",
      input = { command = ("x"):rep(50) .. "\ny" } } } })
    assert.same({ "\27[?7l[Bash] xxxxxxxxxxx…\27[?7h\n" }, aside)
  end)

  it("cuts a tool's result to one row, its indent included", function()
    out = new { has_status = true }
    for _, length in ipairs { 17, 18 } do
      out:event(event.new { type = "user", content = { { type = "tool_result", content = ("x"):rep(length) } } })
    end
    assert.same({ "\27[?7l  xxxxxxxxxxxxxxxxx\27[?7h\n", "\27[?7l  xxxxxxxxxxxxxxxx…\27[?7h\n" }, aside)
  end)

  it("wipes the status line away before it writes, and only then", function()
    out = new { has_status = true }
    out:status "wait"
    out:status "wait"
    out:note "n"
    out:note "m"
    assert.same({ "\r\27[?7lwait\27[?7h\27[K", "\r\27[K", "n\n", "m\n" }, aside)
  end)

  it("shows no status where it cannot be wiped away", function()
    out:status "wait"
    assert.same({}, aside)
  end)

  it("shows no control character", function()
    out:event(event.new { type = "user", content = { { type = "tool_result", content = "\27[2Ja\7" } } })
    out:note "\27]0;x\7"
    out:answer "\u{9b}31m"
    assert.is_nil((table.concat(aside) .. table.concat(written)):find "[\27\7\xc2]")
  end)

  it("shows what a command of the program's wrote, whichever record holds it", function()
    local text = "<local-command-stdout>compacted</local-command-stdout>"
    out:event(event.new { type = "user", content = { { type = "text", text = text } } })
    out:event(event.new { type = "system", subtype = "local_command", message = text })
    assert.same({ "compacted\n", "compacted\n" }, aside)
  end)

  it("shows what has become of a message that is not as it should be", function()
    for _, subtype in ipairs { "attachment_missing", "message_joined", "permission_mode_unavailable" } do
      out:event(event.new { type = "system", subtype = subtype, message = subtype })
    end
    assert.same({ "attachment_missing\n", "message_joined\n", "permission_mode_unavailable\n" }, aside)
  end)

  it("describes a result that is next to nothing, and long", function()
    for name, expected in pairs { spaces = "a +b", spaces_alone = "b", lines = "a %(%+300000 lines, 300.0 kB%)",
      lines_alone = "%(nothing%)" } do
      helper.in_linear_time(function()
        assert.matches("^" .. expected, output.describe_result { content = helper.hollow[name] })
      end)
    end
  end)
end)
