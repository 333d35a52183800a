-- Promise 7 of DESIGN.md for what the model's commands leave running: on the stand-in over a real pty.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local process = require "parley.claude.process"
local session = require "parley.session"
local testing = require "parley.testing"

--- Two commands whose parents have ended, each of which writes its number: in a session of its own, and deaf to the
--- terminal's end.
local LEAVES = [[
  echo 'echo $$ >$0.new; mv $0.new $0.pid; exec sleep 1000' >run; cp run own; cp run deaf
  (setsid sh own >/dev/null 2>&1 &); (nohup sh deaf >/dev/null 2>&1 &)]]

local HOST = [[
  local parley = require "parley"
  parley.run(function()
    local backend <close> = parley.backend(parley.json.decode(os.getenv "OPTIONS"))
    for _ in backend:complete { { role = "user", content = "serve it" } } do end
    print "answered" io.stdout:flush()
    parley.task.condition():wait() -- until it is killed
  end)]]

describe("what the model's commands have left running", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function new_kit()
    return testing.kit { script = { answers = {
      { tool = { name = "Bash", input = { command = "serve" }, leaves = LEAVES }, text = "let me" } } } }
  end

  ---Waits for the two, and returns what tells whether they have ended.
  local function left_by(kit)
    local pids = {}
    for _, name in ipairs { "own", "deaf" } do
      local text = helper.eventually(function() return files.read(("%s/%s.pid"):format(kit.cwd, name)) end, nil, name)
      table.insert(pids, tonumber((text)))
    end
    assert.is_false(helper.has_ended(pids[1]) or helper.has_ended(pids[2]))
    return function() return helper.has_ended(pids[1]) and helper.has_ended(pids[2]) end
  end

  local ENDINGS = {
    closes = function(live) live:close() end,
    retires = function(live) live:kill() end,
    ["crashes and closes"] = function(live)
      live.process:signal "SIGKILL"
      helper.eventually(function() return not live.process:is_alive() end)
      live:close()
    end,
  }
  for name, stop in pairs(ENDINGS) do
    it("ends with a session that " .. name, helper.task(function()
      local kit <close> = new_kit()
      local live <close> = session.new(process.new(kit.options))
      live:start()
      for _ in live:send "serve it" do end -- luacheck: ignore 542
      local have_ended = left_by(kit)
      stop(live)
      helper.eventually(function() return have_ended() and helper.is_reaped(live.process:pid()) end, 5000)
    end))
  end

  local function ends_with(signal, program)
    return helper.task(function()
      local kit <close> = new_kit()
      local environment = helper.plain_lua_environment()
      table.insert(environment, "OPTIONS=" .. core.json.encode(kit.options))
      local host <close> = helper.start({ program, "-e", HOST }, { env = environment })
      host:expect "answered"
      local have_ended = left_by(kit)
      host:kill(signal)
      host:wait()
      helper.eventually(function() return have_ended() and not kit:processes()[1] end, 5000)
    end)
  end

  for _, signal in ipairs { "sigint", "sigterm", "sighup", "sigkill" } do
    it("ends with a host that gets " .. signal, ends_with(signal, helper.host))
  end

  it("ends with a plain Lua that is killed", ends_with("sigkill", "lua5.4"))
end)
