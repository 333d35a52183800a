-- Delivery on the real program, beside the corpus: what else may be in the composer, long texts, mentions.
local attachments = require "parley.backend.attachments"
local core = require "parley.core"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local smoke = require "spec.smoke.live"
local tui = require "parley.claude.tui"
local uv = require "luv"

local say, failure_of, is_fine, last_text = helper.say, helper.failure_of, smoke.is_fine, smoke.last_text

local PASTE, END_PASTE = "\27[200~", "\27[201~"

describe("delivery to the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local converses = smoke.converses

  describe("clears first what a person has typed,", function()
    local function composer_of(live)
      local view = live:view()
      return tui.composer(view.rows, view.cursor) or {}
    end

    ---Types and waits until it is seen, and then presses keys that move the cursor.
    local function leave(live, keys, is_there, moves)
      live.process:write(keys)
      helper.eventually(function() return is_there(composer_of(live)) end, 20000, "what is left in the composer")
      if not moves then return end
      local row = live:view().cursor.row
      live.process:write(moves)
      helper.eventually(function() return live:view().cursor.row < row end, 20000, "the cursor to move")
    end

    local function shows(words)
      return function(composer) return composer.text and composer.text:find(words, 1, true) end
    end

    local LEFT = {
      ["a line"] = { "left over", shows "left over" },
      ["lines, and the cursor among them"] = { PASTE .. "one\ntwo" .. END_PASTE, shows "two", "\27[D\27[A" },
      ["a long paste, shown collapsed"] = { PASTE .. ("line\n"):rep(40) .. "end" .. END_PASTE, shows "[Pasted" },
      ["more lines than the screen has rows"] = { PASTE .. "a\nb" .. END_PASTE .. ("\\\r"):rep(60) .. "tail",
        shows "tail" },
      ["a command and its pop-up"] = { "/comp", shows "/comp" },
      ["a file's name and its pop-up"] = { "see @", shows "see @" },
      ["the shell mode"] = { "!ls", function(composer) return composer.shell and composer.text == "ls" end },
      ["the empty shell mode"] = { "!", function(composer) return composer.shell end },
    }

    converses("whatever it is", function(live, server)
      local sent = {}
      for name, left in pairs(LEFT) do
        leave(live, table.unpack(left))
        is_fine(live, server, "after " .. name)
        table.insert(sent, "after " .. name)
      end
      assert.same(sent, smoke.recorded(live))
      assert.equal(#sent, #server:turns())
    end)
  end)

  converses("lines that their tabs make wider than the screen, or a word before", function(live, server)
    local row = ("a\t"):rep(16) .. "e"
    for _, text in ipairs { row, "first\n" .. row .. "\nlast", (("x"):rep(30) .. "\n"):rep(6) .. row,
      ("prose "):rep(40) .. "\n" .. row, row .. "\n" .. ("word "):rep(40) .. "end",
      (("cell\t"):rep(30) .. "\n"):rep(20) .. "e", "\t\t" .. ("word "):rep(40) .. "end", ("日\t"):rep(16) .. "日",
      ("a\t"):rep(2000) .. "e" } do
      if smoke.is_newest then
        is_fine(live, server, text)
      else
        local requests = #server:turns()
        assert.matches("wider than the screen", failure_of("ValueError", live.send, live, text).message)
        assert.equal(requests, #server:turns())
      end
    end
    for _, text in ipairs { ("a\t"):rep(14) .. "eee", ("x"):rep(130) .. "\ty\tz", "name\tcount\n\tone" } do
      is_fine(live, server, text)
    end
  end)

  describe("of a text of 1 MB", function()
    local text = ("0123456789 bcdefghij\n"):rep(50000):sub(1, 1048570) .. "end"

    -- 2.1.110 would have the model sum it up first, or says by itself that it is too long for it.
    local in_full = { variables = { DISABLE_AUTO_COMPACT = "1" } }
    converses("takes it as it is", in_full, function(live, server)
      local said = say(live, text)
      assert.equal(smoke.is_oldest and "error_api" or "success", said.verdict)
      assert.is_true(smoke.recorded(live)[1] == text, "the text has changed")
      if smoke.is_oldest then return assert.matches("too long", said.texts[1]) end
      assert.is_true(last_text(server) == text, "the text has changed on its way to the API")
      is_fine(live, server)
    end)

  end)

  describe("mends what is lost on the way,", function()
    ---Sends a message, of which `take` takes one write away, or makes another of it.
    local function send(live, server, text, take)
      local write, is_taken = live.process.write, false
      live.process.write = function(process, bytes, wait)
        local left = not is_taken and take(bytes, write)
        if left then is_taken = true end
        return write(process, left or bytes, wait)
      end
      is_fine(live, server, text)
      assert.is_true(is_taken)
      assert.same({ text }, smoke.recorded(live))
      assert.equal(1, #server:turns())
    end

    converses("an Enter", function(live, server)
      send(live, server, "hello", function(bytes) return bytes == "\r" and "" end)
    end)

    converses("the key that opens the editor", function(live, server)
      send(live, server, ("日本"):rep(2000) .. " end", function(bytes) return bytes == "\7" and "" end)
    end)

    converses("an Enter that a menu has taken", function(live, server)
      send(live, server, "hello", function(bytes, write)
        if bytes ~= "\r" then return end
        write(live.process, "\27p")
        helper.eventually(function()
          return live.process.screen:text():find("Select model", 1, true)
        end, 20000, "the menu")
        return bytes
      end)
    end)
  end)

  describe("by the program's editor", function()
    -- The program itself sets GIT_EDITOR for its commands.
    local commit = { type = "tool_use", name = "Bash", input = { description = "commits", command = "env -u GIT_EDITOR "
      .. "git -c user.name=x -c user.email=x@y.z commit --allow-empty -q; git log -1 --format=%s" } }
    local rules = { { on = "COMMIT", blocks = { commit } }, table.unpack(messages_api.rules) }
    local own = [[sh -c 'echo by-the-user > "$1"' sh]]

    ---The user's home has a folder on PATH with an `editor`, as Debian has one.
    local function has_editor(home)
      assert(uv.fs_mkdir(home.cwd .. "/bin", 448))
      helper.write_script(home.cwd .. "/bin/editor", 'echo by-the-user > "$1"')
      home.extra_env.PATH = home.cwd .. "/bin:" .. os.getenv "PATH"
    end

    for what, user in pairs {
      ["$VISUAL"] = { variables = { VISUAL = own, EDITOR = "false" } },
      ["$EDITOR"] = { variables = { EDITOR = own } },
      ["editor, where neither is set"] = { prepare = has_editor },
    } do
      user.script = rules
      converses("leaves the user's own to a commit in a tool call: " .. what, user, function(live, server, home)
        assert.equal(0, helper.run({ "/usr/bin/git", "init", "-q", home.cwd }).status)
        is_fine(live, server, "a\tb")
        local result
        for _, event in ipairs(say(live, "COMMIT now").events) do
          result = event.type == "user" and event:blocks "tool_result"[1] or result
        end
        assert.matches("by%-the%-user", assert(core.json.encode(result.content)))
        is_fine(live, server, "c\td")
      end)
    end
  end)

  converses("attaches a picture as what it is", function(live, server)
    local own = attachments.new()
    local text = own:text_of({ { type = "text", text = "look" }, { type = "image", source = { type = "base64",
      media_type = "image/png", data = core.text.to_base64(smoke.PICTURE) } } }, 1)
    local said = say(live, text)
    own:close()
    assert.equal("success", said.verdict)
    assert.same({ text }, smoke.recorded(live))
    assert.matches('"type":"image"', assert(core.json.encode(server:last_messages())))
  end)

  describe("of a mention", function()
    local function note(home) helper.write(home.cwd .. "/note.txt", "the secret word is Xyzzy\n") end

    converses("attaches the file", { prepare = note }, function(live, server)
      is_fine(live, server, "read @note.txt please")
      assert.matches("Xyzzy", assert(core.json.encode(server:last_messages())))
    end)

    converses("refuses it where that was asked", { prepare = note, session = { mentions = "refuse" } },
      function(live, server)
        local err = failure_of("ValueError", live.send, live, "read @note.txt please")
        assert.matches("@path", tostring(err))
        is_fine(live, server, "mail@example")
        assert.equal(1, #server:turns())
      end)
  end)
end)
