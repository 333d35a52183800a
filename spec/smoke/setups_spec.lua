-- The real program as other people have set it up: messages arrive, are interrupted and cleared as in a fresh home.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local smoke = require "spec.smoke.live"
local task = require "parley.base.task"
local tui = require "parley.claude.tui"

local say, is_fine = helper.say, smoke.is_fine

---Adds to `.claude.json`, where older versions keep what newer ones have in their settings.
local function remember(values)
  return function(home)
    local path = home.home .. "/.claude.json"
    local state = assert(core.json.decode(files.read(path)))
    for name, value in pairs(values) do state[name] = value end
    files.write(path, assert(core.json.encode(state)))
  end
end

local function bind(bindings)
  return function(home)
    local of_chat = { bindings = core.json.array { { context = "Chat", bindings = bindings } } }
    files.write(home.home .. "/.claude/keybindings.json", assert(core.json.encode(of_chat)))
  end
end

local function set(values) return { settings = values, prepare = remember(values) } end

local function status_line(text) return { type = "command", command = "printf '" .. text .. "'" } end

--- One that runs the program, and goes on behind it.
local WRAPPER = (os.getenv "TMPDIR" or "/tmp") .. "/claude-wrapper"

local SETUPS = {
  ["a wrapper that stays"] = { process = { executable = WRAPPER }, prepare = function()
    helper.write_script(WRAPPER, ("'%s' \"$@\"\nstatus=$?\nexit $status"):format(smoke.claude))
  end },
  ["vim mode"] = set { editorMode = "vim" },
  ["key bindings"] = { prepare = bind { ["ctrl+e"] = "chat:externalEditor", ["ctrl+u"] = core.json.null,
    ["ctrl+s"] = "chat:submit", ["ctrl+x ctrl+s"] = "chat:stash" } },
  ["an output style"] = { settings = { outputStyle = "Explanatory" } },
  ["a theme"] = set { theme = "light-daltonized" },
  ["verbose"] = set { verbose = true },
  ["a status line"] = { settings = { statusLine = status_line "me@host  main  12%%" } },
  ["a status line like the program's own"] = { settings = { statusLine = status_line("Pasting text…\\n"
    .. "✻ Baking… (3s · esc to interrupt)\\nesc to interrupt\\nRemoved 2 · review and press Enter to send") } },
}

describe("the real program with", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    files.remove(WRAPPER)
    check_leaks()
  end)

  for name, given in pairs(SETUPS) do
    it(name .. " takes messages, and others after an interrupt", smoke.conversation(given, function(live, server)
      local long = ("line\n"):rep(40) .. "end"
      local sent = { "hello", "! two\nlines", long }
      for _, text in ipairs(sent) do is_fine(live, server, text) end
      for i = 1, 2 do
        local said = say(live, "COUNT " .. i, function(event)
          if event.type == "user" then live:interrupt() end
        end)
        assert.equal("interrupted", said.verdict)
        is_fine(live, server, "after it")
        is_fine(live, server, "and\nmore")
        for _, text in ipairs { "COUNT " .. i, "after it", "and\nmore" } do table.insert(sent, text) end
      end
      local recorded = {}
      for _, text in ipairs(smoke.recorded(live)) do
        if not text:find "^%[Request interrupted" then table.insert(recorded, text) end
      end
      assert.same(sent, recorded)
    end))

    it(name .. " is cleared of what a person has left", smoke.conversation(given, function(live, server)
      for _, keys in ipairs { "left over", "left over\27" } do
        live.process:write(keys)
        helper.eventually(function()
          local view = live:view()
          local composer = tui.composer(view.rows, view.cursor)
          return composer and composer.text:find("left over", 1, true)
        end, 20000, "what is left in the composer")
        is_fine(live, server, "after it")
      end
    end))
  end

  it("no folder for temporary files says so, where a text needs one", smoke.conversation({}, function(live, _, home)
    files.remove_tree(home.extra_env.TMPDIR)
    local err = helper.failure_of("SessionError", say, live, ("line\n"):rep(40) .. "end")
    assert.matches("does not open: .*: there is no folder '", err.message)
  end))

  it("an Enter that makes a new line says so at once", smoke.conversation({
    prepare = bind { enter = "chat:newline", ["ctrl+s"] = "chat:submit" } }, function(live, server)
    local started = task.now()
    local err = helper.failure_of("SessionError", say, live, "hello")
    assert.equal("delivery", err.reason)
    assert.matches("keybindings.json", tostring(err), 1, true)
    assert.is_true(task.now() - started < 25000)
    assert.equal(0, #server:turns())
  end))

  it("settings that forbid the permission mode, which is told once", smoke.conversation({
    process = { permission_mode = "bypassPermissions" },
    settings = { permissions = { disableBypassPermissionsMode = "disable" } },
  }, function(live, server)
    local told = smoke.of_subtype(say(live, "hello"), "permission_mode_unavailable")
    assert.equal(1, #told)
    assert.equal("bypassPermissions", told[1].wanted)
    assert.equal(0, #smoke.of_subtype(say(live, "again"), "permission_mode_unavailable"))
    is_fine(live, server)
  end))
end)
