local core = require "parley.core"
local helper = require "spec.helper"
local listener = require "parley.hub.listener"
local task = require "parley.base.task"
local uv = require "luv"

describe("the hub's listener", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    assert.is_false(listener.is_open())
    check_leaks()
  end)

  local function place_of(url) return url:match "^http://127%.0%.0%.1:(%d+)(/.*)$" end

  --- Sends bytes and gives what comes back until the other end closes, or a whole answer is there.
  local function exchange(port, bytes)
    local socket <close> = task.closing(uv.new_tcp())
    local changed, text, is_over = task.condition(), "", false
    socket.handle:connect("127.0.0.1", tonumber(port), function(err)
      assert(not err, err)
      socket.handle:write(bytes)
      socket.handle:read_start(function(_, piece)
        text, is_over = text .. (piece or ""), not piece
        changed:notify()
      end)
    end)
    changed:wait_until(function() return is_over or text:find "\r\n\r\n" end, 20000)
    return tonumber(text:match "^HTTP/1.1 (%d+)")
  end

  local function post(url, headers, path)
    local port, own = place_of(url)
    return exchange(port, ("POST %s HTTP/1.1\r\n%s\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"):format(
      path or own .. "hooks/Stop", headers or "Host: 127.0.0.1:" .. port))
  end

  local function attached(seen)
    local entry = listener.attach(function(path, _, response)
      table.insert(seen, path)
      listener.answer(response, { fine = true })
    end)
    return entry, setmetatable({}, { __close = function() entry:close() end })
  end

  it("answers who has the secret, as long as somebody is attached", helper.task(function()
    local seen = {}
    local first = attached(seen)
    local second, closer = attached(seen)
    local _ <close> = closer
    assert.not_equal(first.url, second.url)
    assert.equal(64, #select(2, place_of(first.url)):match "%x+")
    assert.equal(200, post(first.url))
    first:close()
    first:close()
    assert.is_true(listener.is_open())
    assert.equal(404, post(first.url))
    assert.equal(200, post(second.url))
    assert.same({ "hooks/Stop", "hooks/Stop" }, seen)
  end))

  it("refuses whoever has not the secret, a foreign name and a page", helper.task(function()
    local seen = {}
    local entry, closer = attached(seen)
    local _ <close> = closer
    local port, own = place_of(entry.url)
    local host = "Host: 127.0.0.1:" .. port
    for _, path in ipairs { "/", "/hooks/Stop", "//hooks/Stop", "/" .. ("0"):rep(64) .. "/hooks/Stop",
      own:sub(1, -3) .. "/hooks/Stop", own:upper() .. "hooks/Stop" } do
      assert.equal(404, post(entry.url, nil, path), path)
    end
    for _, headers in ipairs { "Host: evil.example:" .. port, "Host: 127.0.0.1",
      "Host: 127.0.0.1.evil.example:" .. port,
      host .. "\r\nOrigin: http://127.0.0.1:" .. port, host .. "\r\nOrigin: null" } do
      assert.equal(403, post(entry.url, headers), headers)
    end
    assert.same({}, seen)
    assert.equal(200, post(entry.url))
  end))

  it("serves on while heads come slowly and connections are many", helper.task(function()
    local entry, closer = attached {}
    local _ <close> = closer
    local port = place_of(entry.url)
    local sockets, closed = {}, 0
    for index = 1, 200 do
      local socket = uv.new_tcp()
      sockets[index] = socket
      socket:connect("127.0.0.1", tonumber(port), function(err)
        if err or socket:is_closing() then return end
        socket:write "POST /"
        socket:read_start(function(_, bytes) closed = closed + (bytes and 0 or 1) end)
      end)
    end
    assert.equal(200, post(entry.url))
    helper.eventually(function() return closed == 200 end)
    assert.equal(200, post(entry.url))
    for _, socket in ipairs(sockets) do socket:close() end
    helper.tick()
  end))

  for what, bytes in pairs { ["half a head"] = "POST /",
    ["a request without the secret"] = "GET / HTTP/1.1\r\n%s\r\n" } do
    it(("serves on while as many as there may be have sent %s, and stay"):format(what), helper.task(function()
      local entry, closer = attached {}
      local _ <close> = closer
      local port = place_of(entry.url)
      local sockets, reached = {}, 0
      local _ <close> = setmetatable({}, { __close = function()
        for _, socket in ipairs(sockets) do socket:close() end
        helper.tick()
      end })
      for index = 1, 512 do
        local socket = uv.new_tcp()
        sockets[index] = socket
        socket:connect("127.0.0.1", tonumber(port), function(err)
          reached = reached + 1
          if err or socket:is_closing() then return end
          socket:write(bytes:format("Host: 127.0.0.1:" .. port .. "\r\n"))
          socket:read_start(function() end)
        end)
        if index % 100 == 0 then helper.eventually(function() return reached == index end) end
      end
      helper.eventually(function() return reached == 512 end)
      helper.eventually(function() return post(entry.url) == 200 end)
      for _ = 1, 2 do assert.equal(200, post(entry.url)) end
    end))
  end

  it("outlives the task that needed it first", helper.task(function()
    local entry
    task.spawn(function() entry = attached {} end):await()
    local cancelled = task.spawn(helper.until_cancelled)
    cancelled:cancel()
    pcall(cancelled.await, cancelled)
    assert.equal(200, post(entry.url))
    entry:close()
  end))

  it("cannot give what is no JSON", helper.task(function()
    local entry = listener.attach(function(_, _, response) listener.answer(response, { core.json }) end)
    assert.equal(500, post(entry.url))
    entry:close()
  end))
end)
