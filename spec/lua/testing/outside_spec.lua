--- The stand-in in a world that is simulated as a whole: several in this process, on terminals in memory, with a clock
--- of their own.
local clock = require "parley.base.clock"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local helper = require "spec.helper"
local outside = require "parley.testing.stand_in.outside"
local simulated_clock = require "spec.simulated_clock"
local stand_in = require "parley.testing.stand_in"
local task = require "parley.base.task"
local testing = require "parley.testing"

--- Above what Linux gives to processes.
local next_pid = 1 << 22

local PATIENCE_MS = 60000 -- of the simulated clock

---@class spec.Place  what is outside of one stand-in, and the person who sits there
local Place = {}
Place.__index = Place

--- A terminal in memory, which takes no more once it is closed.
local function terminal_of(place)
  local terminal = {}
  function terminal:read(take) self.take = take end
  function terminal:stop() self.take = nil end
  function terminal.size() return place.screen:size() end
  function terminal:close() self.take = nil end
  return terminal
end

--- What the world lets a stand-in see and do.
local function outside_of(place, kit)
  next_pid = next_pid + 1
  local world = { environment = kit.environment, cwd = kit.cwd, pid = next_pid, user = 0, write = function(bytes)
    place.screen:feed(bytes)
    place.changed:notify()
  end }
  function world.complain(line) world.write(line .. "\r\n") end
  function world.open_terminal() return place.terminal end
  function world.on_signal(name, callback)
    place.handlers[name] = callback
    return { close = function() place.handlers[name] = nil end }
  end
  function world.die() place.is_killed = true end
  function world.shell(command, input)
    table.insert(place.commands, command)
    return { status = 0, output = "said to: " .. input, errors = "", milliseconds = 1 }
  end
  function world.edit(words)
    table.insert(place.commands, table.concat(words, " "))
    return 0
  end
  function world.http(request)
    table.insert(place.commands, request.url)
    return { status = 404, headers = {}, body = "" }
  end
  function world.rename(from, to) table.insert(place.commands, from .. " " .. to) end
  function world.leave(command) table.insert(place.commands, command) end
  return world
end

--- Starts a stand-in as a child of the current task.
local function start(kit, words, script)
  local place = setmetatable({ screen = core.screen.new(40, 120), changed = task.condition(), handlers = {},
    commands = {} }, Place)
  place.terminal = terminal_of(place)
  place.outside = outside_of(place, kit)
  place.task = task.spawn(function()
    place.status = stand_in.run(words, script or {}, place.outside)
    place.changed:notify()
    helper.tick() -- raises when its end was the task's as well
    place.is_left = true
  end)
  return place
end

function Place:press(bytes) self.terminal.take(bytes) end

function Place:expect(text)
  local is_shown = self.changed:wait_until(function() return self.screen:text():find(text, 1, true) end, PATIENCE_MS)
  assert.truthy(is_shown, text .. " is not on the screen:\n" .. self.screen:text())
end

function Place:end_of() return self.changed:wait_until(function() return self.status end, PATIENCE_MS) end

function Place:status_path(kit) return ("%s/.claude/sessions/%d.json"):format(kit.home, self.outside.pid) end

function Place:kill()
  self.task:cancel(errors.cancelled("killed", { is_abrupt = true }))
  pcall(self.task.await, self.task)
end

--- For busted's `it`: the body runs as a task in a world with a clock of its own.
local function in_world(body)
  return function()
    local world = simulated_clock.new()
    clock.use(world)
    local _ <close> = setmetatable({}, { __close = function() clock.use() end })
    task.run(function()
      local kit <close> = testing.kit()
      body(kit, world)
    end)
  end
end

describe("the stand-in in a simulated world", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("finds in it all that it finds outside", function()
    local place = setmetatable({}, Place)
    local simulated, found = outside_of(place, { environment = {}, cwd = "/" }), {}
    local real = outside.new()
    local names = { "environment", "cwd", "pid", "user" }
    for name in pairs(getmetatable(real).__index) do
      if name ~= "__index" then table.insert(names, name) end
    end
    for _, name in ipairs(names) do found[name] = type(real[name]) end
    for name, value in pairs(simulated) do
      assert.equal(type(value), found[name], name)
      found[name] = nil
    end
    assert.same({}, found)
  end)

  it("answers each of two, and goes on when the other leaves", in_world(function(kit)
    local first, second = start(kit, {}), start(kit, {}, { answers = { { text = "I am the second" } } })
    first:expect "❯"
    second:expect "❯"
    first:press "one\r"
    second:press "two\r"
    first:expect "echo: one"
    second:expect "I am the second"
    first:press "\3"
    first:press "\3"
    assert.equal(0, first:end_of())
    second:press "three\r"
    second:expect "three"
    assert.is_true(first.is_left)
    second:press "/exit\r"
    assert.equal(0, second:end_of())
    assert.same({ "one", "two", "three" }, kit:taken())
  end))

  it("takes no real time, whatever it waits for", in_world(function(kit, world)
    local place = start(kit, {}, { startup_delay_ms = 600000, answers = { { text = "late", delay_ms = 30000 } } })
    local is_up = place.changed:wait_until(function() return place.screen:text():find("❯", 1, true) end, 700000)
    assert.truthy(is_up)
    place:press "hello\r"
    place:expect "late"
    assert.truthy(world.time >= 630000)
    place:kill()
  end))

  it("dies without a word, and alone", in_world(function(kit)
    local script = { answers = { { on = "die", text = "x", crash = "after_user" } } }
    local first, second = start(kit, {}, script), start(kit, {}, script)
    first:expect "❯"
    second:expect "❯"
    first:press "die\r"
    first:end_of()
    assert.is_true(first.is_killed)
    second:press "live\r"
    second:expect "echo: live"
    second:kill()
    for _, place in ipairs { first, second } do -- as SIGKILL leaves it
      assert.truthy(files.size(place:status_path(kit)))
    end
  end))

  it("ends with the status of what ended it, and cleans up", in_world(function(kit)
    local place = start(kit, {})
    place:expect "❯"
    place.task:cancel(errors.cancelled("terminated", { exit_status = 143 }))
    assert.equal(143, place:end_of())
    assert.is_nil(files.size(place:status_path(kit)))
    assert.same({}, place.handlers)
    assert.is_nil(place.terminal.take)
  end))

  it("uses up its own script only", in_world(function(kit)
    local script = { faults = { lose_keys = 1 }, answers = { { text = "only once", times = 1 } } }
    for _ = 1, 2 do
      local place = start(kit, {}, script)
      place:expect "❯"
      place:press "x" -- is lost
      place:press "hello\r"
      place:expect "only once"
      place:kill()
    end
  end))

  it("has the world run its commands, and hears of its signals", in_world(function(kit)
    helper.write(kit.home .. "/.claude/settings.json", core.json.encode { skipDangerousModePermissionPrompt = true,
      hooks = { Stop = { { hooks = { { type = "command", command = "told" } } } } } })
    local script = { answers = { { tool = { name = "Bash", leaves = "serve &" } } } }
    local place = start(kit, { "--permission-mode", "bypassPermissions" }, script)
    place:expect "❯"
    place.screen:resize(30, 90)
    place.handlers.sigwinch()
    place:press "go\r"
    place:expect "TOOLRESULT"
    assert.same({ "serve &", "told" }, place.commands)
    place:press "!date\r"
    place:expect "said to:"
    assert.equal("date", place.commands[3])
    place.handlers.sigint()
    assert.equal(0, place:end_of())
  end))
end)
