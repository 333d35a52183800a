-- What the model's commands leave running on the real program, and when that ends.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local parley = require "parley"
local task = require "parley.base.task"
local uv = require "luv"

local claude = os.getenv "PARLEY_CLAUDE"

--- The ways in which a command outlives the shell that runs it.
local SHAPES = { background = "sh -c 'sleep %s; :'", setsid = "setsid sleep %s >/dev/null 2>&1 &",
  nohup = "nohup sleep %s >/dev/null 2>&1 &", daemon = "(setsid sleep %s >/dev/null 2>&1 &); exit" }

local HOST = [[
  local parley = require "parley"
  local backend <close> = parley.backend(parley.json.decode(arg[1]))
  for _ in backend:complete { { role = "user", content = arg[2] } } do end
  print "answered" io.stdout:flush()
  parley.task.condition():wait(60000)
]]

describe("what the model's commands have left running on the real program", function()
  if not claude then return pending "needs PARLEY_CLAUDE: run make smoke" end
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  --- Numbers of seconds that no other command sleeps, by shape, and the tool calls that start them.
  local function commands()
    local seconds, calls = {}, {}
    for shape, command in pairs(SHAPES) do
      seconds[shape] = ("1000.%d%d"):format(#calls + 1, uv.hrtime())
      table.insert(calls, { type = "tool_use", name = "Bash", input = { description = "as asked",
        command = command:format(seconds[shape]), run_in_background = shape == "background" or nil } })
    end
    return seconds, calls
  end

  --- The shapes whose command runs, sorted.
  local function running(seconds)
    local found = {}
    for _, name in ipairs(helper.names_in "/proc") do
      local words = name:find "^%d" and files.read(("/proc/%s/cmdline"):format(name)) or ""
      for shape, number in pairs(seconds) do
        if words == ("sleep\0%s\0"):format(number) then table.insert(found, shape) end
      end
    end
    table.sort(found)
    return table.concat(found, " ")
  end

  --- A spec of one ending: `start(options, message)` gives a function that brings it about.
  local function ends(name, message, start)
    it(name, helper.task(function()
      local seconds, calls = commands()
      local server <close> = messages_api.start { script = { { on = "START", blocks = calls },
        { on = "WAIT", step = 1, delay_ms = 60000 } } }
      local home <close> = offline_home.new { base_url = server.url }
      local stop <close> = start({ executable = claude, cwd = home.cwd, extra_env = home.extra_env }, message)
      helper.eventually(function() return running(seconds) == "background daemon nohup setsid" end, 60000,
        "the start of every command")
      if message:find "WAIT" then
        server:wait_for(function(request) return request.kind == "turn" and request.step == 1 end, 60000)
      end
      stop.now()
      helper.eventually(function() return running(seconds) == "" end, 5000, "the end of every command")
    end, 300000))
  end

  local function inside(stop)
    return function(options, message)
      local backend = parley.backend(options)
      local turn = task.spawn(function()
        for _ in backend:complete { { role = "user", content = message } } do end -- luacheck: ignore 542
      end)
      return setmetatable({ now = function() stop(backend, turn) end }, { __close = function()
        turn:cancel()
        task.shield(pcall, turn.await, turn)
        backend:close()
      end })
    end
  end

  local function outside(signal)
    return function(options, message)
      local host = helper.start { helper.host, "-e", HOST, core.json.encode(options), message }
      return setmetatable({ now = function()
        if not message:find "WAIT" then host:expect "answered" end
        host:kill(signal)
        host:wait()
      end }, { __close = function() host:__close() end })
    end
  end

  ends("ends when the backend is closed", "START", inside(function(backend, turn)
    turn:await()
    backend:close()
  end))

  ends("ends when the turn is cancelled", "START and WAIT", inside(function(_, turn)
    turn:cancel()
    pcall(turn.await, turn)
  end))

  ends("ends with a host that gets SIGTERM", "START", outside "sigterm")
  ends("ends with a host that gets SIGTERM in a turn", "START and WAIT", outside "sigterm")
  ends("ends with a host that is killed", "START", outside "sigkill")
  ends("ends with a host that is killed in a turn", "START and WAIT", outside "sigkill")
end)
