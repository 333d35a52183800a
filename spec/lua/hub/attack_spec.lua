-- Others who call the hub: whoever has no business there is refused, and the turns of the sessions go on untouched.
local helper = require "spec.helper"
local listener = require "parley.hub.listener"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"
local uv = require "luv"

--- So many connections, as far as this process may have descriptors.
local CROWD = helper.long(1500, 8000)

describe("the hub under attack", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    assert.is_false(listener.is_open())
    check_leaks()
  end)

  ---Sends bytes; the status of the answer, nil when there was none.
  local function status_of(port, bytes)
    local socket <close> = task.closing(uv.new_tcp())
    local changed, text, is_over = task.condition(), "", false
    socket.handle:connect("127.0.0.1", port, function(err)
      if err then is_over = true return changed:notify() end
      socket.handle:write(bytes)
      socket.handle:read_start(function(_, piece)
        text, is_over = text .. (piece or ""), not piece
        changed:notify()
      end)
    end)
    changed:wait_until(function() return is_over or text:find("\r\n\r\n", 1, true) end, 30000)
    return tonumber(text:match "^HTTP/1.1 (%d+)")
  end

  local DECISION = '{"tool_name":"Bash","tool_use_id":"toolu_x","tool_input":{"command":"rm -rf /"}}'

  local function post(port, path, host, more)
    return status_of(port, ("POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s"):format(path, host,
      more or "", #DECISION, DECISION))
  end

  ---Where a backend's only session is called: the port, and the path with its secret.
  local function place_of(backend)
    local _, process = next(backend:live_sessions())
    for i, word in ipairs(process.argv) do
      if word == "--plugin-dir" then
        local text = require("parley.base.files").read(process.argv[i + 1] .. "/hooks/hooks.json")
        local port, path = text:match "http:\\?/\\?/127%.0%.0%.1:(%d+)(\\?/%x+\\?/)"
        return math.tointeger(tonumber(port)), (path:gsub("\\", ""))
      end
    end
  end

  ---Holds a turn whose tool call waits for its decision while `attack(port, path, calls)` runs, and looks that nothing
  ---came of that.
  local function under_attack(attack)
    local kit <close> = testing.kit { script = { answers = { { on = "DOIT", tool = { name = "Bash",
      input = { command = "touch good" }, result = "good-out", permission = true } } } } }
    local is_over, changed, calls = false, task.condition(), {}
    kit.options.policies = { permission = { decide = function(call)
      table.insert(calls, call.input.command)
      changed:notify()
      changed:wait_until(function() return is_over end)
      return { allow = true }
    end } }
    local backend <close> = parley.backend(kit.options)
    local turn = backend:complete { { role = "user", content = "DOIT please" } }
    local running = task.spawn(turn.result, turn)
    changed:wait_until(function() return #calls == 1 end, 60000)
    local port, path = place_of(backend)
    attack(port, path)
    is_over = true
    changed:notify()
    assert.equal("success", running:await().subtype)
    assert.same({ "touch good" }, calls)
    local results = {}
    for event in turn:events() do
      for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do
        table.insert(results, block.content)
      end
    end
    assert.same({ "good-out" }, results)
  end

  it("refuses who has no secret, a wrong one or a part of one", helper.task(function()
    under_attack(function(port, path)
      local secret = path:match "%x+"
      for _, wrong in ipairs { "/", "/hooks/PreToolUse", "//hooks/PreToolUse",
        "/" .. secret:sub(1, -2) .. "/hooks/PreToolUse",
        "/" .. ("0"):rep(64) .. "/hooks/PreToolUse", "/" .. secret:upper() .. "x/hooks/PreToolUse",
        "/" .. secret .. "%2Fhooks/PreToolUse", "/x/../" .. secret .. "/hooks/PreToolUse" } do
        local status = post(port, wrong, "127.0.0.1:" .. port)
        assert.is_true(status == 404 or status == 400, wrong .. ": " .. tostring(status))
      end
    end)
  end))

  it("does not take another session's secret for this one's", helper.task(function()
    under_attack(function(_, path)
      local others = {}
      local entry = listener.attach(function(rest, _, response)
        table.insert(others, rest)
        response:send(200, nil, "")
      end)
      local port, own = entry.url:match "^http://127%.0%.0%.1:(%d+)(/%x+/)$"
      assert.not_equal(path, own)
      assert.equal(200, post(port, own .. "hooks/PreToolUse", "127.0.0.1:" .. port))
      assert.same({ "hooks/PreToolUse" }, others) -- it is answered by its own, and by it alone
      entry:close()
      assert.equal(404, post(port, own .. "hooks/PreToolUse", "127.0.0.1:" .. port))
    end)
  end))

  it("refuses a name that was made to point here, and pages, even with the secret", helper.task(function()
    under_attack(function(port, path)
      for _, host in ipairs { "evil.example:" .. port, "evil.example", "127.0.0.1", "127.0.0.1.evil.example:" .. port,
        "127.0.0.1:" .. port + 1, "0.0.0.0:" .. port, "[::1]:" .. port } do
        assert.equal(403, post(port, path .. "hooks/PreToolUse", host), host)
      end
      for _, origin in ipairs { "http://evil.example", "null", "http://127.0.0.1:" .. port } do
        assert.equal(403, post(port, path .. "hooks/PreToolUse", "127.0.0.1:" .. port, "Origin: " .. origin .. "\r\n"))
      end
      assert.equal(400, post(port, path .. "hooks/PreToolUse", "127.0.0.1:" .. port, "Host: 127.0.0.1:1\r\n"))
    end)
  end))

  it("goes on among thousands of connections that send half a head, or nothing", helper.task(function()
    under_attack(function(port)
      local sockets, reached, gone = {}, 0, 0
      local _ <close> = setmetatable({}, { __close = function()
        for _, socket in ipairs(sockets) do socket:close() end
        helper.tick()
      end })
      local function on_connect(socket, index)
        return function(err)
          reached = reached + 1
          if socket:is_closing() then return end
          if err then gone = gone + 1 return end
          if index % 2 == 0 then socket:write "POST /0123 HTTP/1.1\r\nHost: 127" end
          socket:read_start(function(_, bytes) gone = gone + (bytes and 0 or 1) end)
        end
      end
      for index = 1, CROWD do
        sockets[index] = uv.new_tcp()
        assert(sockets[index]:connect("127.0.0.1", port, on_connect(sockets[index], index)))
        -- What the kernel cannot queue it may forget without a word, and the client waits for ever.
        if index % 100 == 0 then helper.eventually(function() return reached == index end) end
      end
      -- Each is sent away: those that are too many at once, the others when their head has not come in time.
      helper.eventually(function() return gone == CROWD end)
    end)
  end))
end)
