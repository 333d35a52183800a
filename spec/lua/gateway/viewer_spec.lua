local core = require "parley.core"
local helper = require "spec.helper"
local task = require "parley.base.task"
local viewers = require "parley.gateway.window.viewer"

--- What a viewer needs of a process.
local function fake()
  local process = { screen = core.screen.new(5, 20), changed = task.condition(), received = 0, watchers = {} }
  function process:watch(watcher)
    self.watchers[watcher] = true
    return function() self.watchers[watcher] = nil end
  end
  function process:write(bytes)
    self.screen:feed(bytes)
    self.received = self.received + #bytes
    for watcher in pairs(self.watchers) do watcher(bytes, self.received) end
    self.changed:notify()
  end
  function process:resize(rows, columns)
    self.screen:resize(rows, columns)
    for watcher in pairs(self.watchers) do watcher() end
    self.changed:notify()
  end
  function process:exit_record() return self.exit end
  return process
end

--- A terminal that shows what a viewer is given, and checks that nothing is missing between two looks.
local function terminal()
  local shown = { looks = {} }
  function shown:take(look)
    table.insert(self.looks, look.kind)
    if look.kind == "snapshot" then
      self.screen = core.screen.new(look.rows, look.columns)
    else
      assert.equal(self.to, look.from)
      assert.equal(#look.bytes, look.to - look.from)
    end
    self.screen:feed(look.bytes)
    self.to = look.to
  end
  function shown:drain(viewer)
    for look in function() return viewer:take() end do self:take(look) end
  end
  return shown
end

describe("a viewer", function()
  it("gets what is there, then what comes, without a gap", helper.task(function()
    local process, shown = fake(), terminal()
    process:write "before \27[3"
    local viewer <close> = viewers.new(process)
    shown:drain(viewer)
    process:write "1mred"
    process:write " more"
    shown:drain(viewer)
    process:write "\r\nlast"
    shown:drain(viewer)
    assert.same({ "snapshot", "bytes", "bytes" }, shown.looks)
    assert.same(process.screen:rows(), shown.screen:rows())
    assert.same(process.screen:attributes(1), shown.screen:attributes(1))
    assert.equal(process.received, shown.to)
  end))

  it("that is slow holds up nobody, and gets a new snapshot instead of all that it has missed", helper.task(function()
    local process, shown = fake(), terminal()
    local viewer <close> = viewers.new(process)
    shown:drain(viewer)
    for i = 1, 4000 do process:write(("line %d and some more of it\r\n"):format(i)) end
    assert.is_true(viewer.size <= viewers.QUEUE_BYTES)
    shown:drain(viewer)
    assert.same({ "snapshot", "snapshot" }, shown.looks)
    assert.equal(1, viewer.drops)
    assert.same(process.screen:rows(), shown.screen:rows())
    process:write "on it goes"
    shown:drain(viewer)
    assert.equal("bytes", shown.looks[3])
    assert.same(process.screen:rows(), shown.screen:rows())
  end))

  it("gets a new snapshot with each change of size, and where the program leaves the screen it began on",
    helper.task(function()
      local process, shown = fake(), terminal()
      process:write "primary\27[?1049h\27[Hfull"
      local viewer <close> = viewers.new(process)
      shown:drain(viewer)
      process:resize(7, 30)
      shown:drain(viewer)
      assert.same({ 7, 30 }, { shown.screen:size() })
      process:write "\27[?1049l$"
      shown:drain(viewer)
      assert.same({ "snapshot", "snapshot", "snapshot" }, shown.looks)
      assert.same(process.screen:rows(), shown.screen:rows())
    end))

  it("waits, and is told of the end", helper.task(function()
    local process = fake()
    local viewer <close> = viewers.new(process)
    viewer:take()
    assert.is_nil(viewer:next(1))
    local waiting = task.spawn(viewer.next, viewer)
    helper.tick()
    process:write "x"
    assert.equal("x", waiting:await().bytes)
    process.exit = { exit_code = 0 }
    assert.equal("end", viewer:next(1).kind)
  end))

  it("is forgotten when it goes", helper.task(function()
    local process = fake()
    local viewer = viewers.new(process)
    viewer:close()
    assert.is_nil(next(process.watchers))
  end))
end)
