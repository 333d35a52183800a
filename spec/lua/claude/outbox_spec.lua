-- What goes to a terminal that takes little or nothing, on a terminal that the spec plays.
local helper = require "spec.helper"
local outbox = require "parley.claude.outbox"
local task = require "parley.base.task"
local uv = require "luv"

local PASTE, END_PASTE = "\27[200~", "\27[201~"

describe("outbox", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  ---A terminal whose program takes `room` bytes; `reader` is a descriptor on which its reading can be told of.
  local function terminal(room)
    local pair = assert(uv.socketpair(nil, nil, { nonblock = true }, { nonblock = true }))
    local pty = { taken = "", room = room }
    function pty:descriptor() return pair[1] end -- luacheck: ignore 212
    function pty:write(bytes)
      if self.problem then return nil, { code = "EIO", message = self.problem } end
      local count = math.min(#bytes, self.room)
      if count == 0 then return nil, { code = "EAGAIN", message = "it is full" } end
      self.taken, self.room = self.taken .. bytes:sub(1, count), self.room - count
      return count
    end
    function pty.close()
      for _, descriptor in ipairs(pair) do uv.fs_close(descriptor) end
    end
    return pty
  end

  ---Runs a spec with an outbox on such a terminal.
  local function on_terminal(room, body)
    return helper.task(function()
      local pty, changed = terminal(room), task.condition()
      local box = outbox.new(pty, function() changed:notify() end)
      local _ <close> = setmetatable({}, { __close = function()
        box:close "closed"
        pty.close()
      end })
      body(box, pty, changed)
    end)
  end

  it("writes at once what the terminal takes", on_terminal(100, function(box, pty)
    assert.is_true(box:is_gone(box:send "hello"))
    assert.is_true(box:is_gone(box:send ""))
    assert.equal("hello", pty.taken)
  end))

  it("writes the rest when there is room again, in order", on_terminal(3, function(box, pty, changed)
    local first, second = box:send "hello ", box:send "world"
    assert.is_false(box:is_gone(first))
    pty.room = 100
    while not box:is_gone(second) do changed:wait() end
    assert.is_true(box:is_gone(first))
    assert.equal("hello world", pty.taken)
  end))

  it("says why what waits will never go", on_terminal(3, function(box, pty, changed)
    local letter = box:send "hello"
    pty.problem = "the terminal burns"
    while not letter.problem do changed:wait() end
    assert.equal("the terminal burns", letter.problem)
    assert.is_false(box:is_gone(letter))
  end))

  it("never writes what was taken back", on_terminal(0, function(box, pty, changed)
    local first, second, third = box:send "one", box:send "two", box:send "three"
    box:take_back(second)
    pty.room = 100
    while not box:is_gone(third) do changed:wait() end
    assert.equal("onethree", pty.taken)
    box:take_back(first)
  end))

  it("closes a paste of which only a beginning went", on_terminal(10, function(box, pty, changed)
    box:take_back(box:send(PASTE .. "some text" .. END_PASTE))
    local following = box:send "next"
    pty.room = 100
    while not box:is_gone(following) do changed:wait() end
    assert.equal(PASTE .. "some" .. END_PASTE .. "next", pty.taken)
  end))

  for name, case in pairs {
    ["nothing, between two keys"] = { "abc", 2, "" },
    ["the rest of a character"] = { "日本", 1, "\x97\xA5" },
    ["the rest of a key's sequence"] = { "\27[3~abc", 2, "3~" },
    ["all of a sequence but its first byte"] = { "\27[B\27[B", 4, "[B" },
    ["the paste's end"] = { PASTE .. "a\nb" .. END_PASTE, 8, END_PASTE },
    ["the rest of a paste's beginning, and its end"] = { PASTE .. "ab", 3, "00~" .. END_PASTE },
    ["the rest of a paste's end"] = { PASTE .. "ab" .. END_PASTE .. "c", 10, "201~" },
    ["the rest of a character in a paste, and its end"] = { PASTE .. "é!" .. END_PASTE, 7, "\xA9" .. END_PASTE },
    ["the end of the second paste"] = { (PASTE .. "ab" .. END_PASTE):rep(2), 21, END_PASTE },
    ["nothing, between two pastes"] = { (PASTE .. "ab" .. END_PASTE):rep(2), 14, "" },
  } do
    it("puts behind a beginning: " .. name, function()
      local bytes, gone, ending = table.unpack(case)
      assert.equal(ending, outbox.ending(bytes, gone))
    end)
  end

  it("knows at once what to put behind a long beginning without a sequence", function()
    local began = os.clock()
    assert.equal("", outbox.ending(("x"):rep(200000), 100000))
    assert.is_true(os.clock() - began < 5) -- a search from each of its bytes takes a minute
  end)

  it("lets only so many replies wait", on_terminal(0, function(box, pty, changed)
    for _ = 1, 100000 do box:reply "\27[1;1R" end
    local letter = box:send "key"
    pty.room = 1 << 20
    while not box:is_gone(letter) do changed:wait() end
    assert.is_true(#pty.taken > 1000 and #pty.taken < 5000, #pty.taken)
    assert.equal("\27[1;1R", pty.taken:sub(1, 6))
    box:reply "again" -- those that have gone do not count
    assert.equal("keyagain", pty.taken:sub(-8))
  end))

  it("sends the replies to many questions at once", on_terminal(0, function(box, pty, changed)
    local all = ("\27[1;1R"):rep(1000)
    box:reply(all)
    box:reply(all) -- too many wait by now
    pty.room = 1 << 20
    local letter = box:send "key"
    while not box:is_gone(letter) do changed:wait() end
    assert.is_true(pty.taken == all .. "key", #pty.taken)
  end))

  it("drops what waits when it is closed", on_terminal(0, function(box)
    local letter = box:send "hello"
    box:close "it is over"
    assert.equal("it is over", letter.problem)
  end))
end)
