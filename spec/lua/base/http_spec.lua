local errors = require "parley.base.errors"
local helper = require "spec.helper"
local http = require "parley.http"
local task = require "parley.base.task"
local uv = require "luv"

---@class spec.Client  a socket, and what came over it
local Client = {}
Client.__index = Client

--- Connects to a server.
local function connect(server)
  local self = setmetatable({ received = "", ended = false, news = task.condition() }, Client)
  self.socket = server.path and uv.new_pipe(false) or uv.new_tcp()
  task.suspend(function(wake)
    if server.path then return self.socket:connect(server.path, wake) and nil end
    self.socket:connect("127.0.0.1", server.port, wake)
  end)
  self:read_on()
  return self
end

function Client:read_on()
  self.socket:read_start(function(err, bytes)
    if bytes then self.received = self.received .. bytes else self.ended = err or "end" end
    self.news:notify()
  end)
end

function Client:write(bytes) self.socket:write(bytes) end

--- Waits until a pattern has come, or the end of it all, and gives all that came.
function Client:expect(pattern)
  while not (pattern and self.received:find(pattern)) do
    if self.ended then
      assert(not pattern, ("%s has not come, but %q"):format(pattern, self.received))
      break
    end
    self.news:wait()
  end
  return self.received
end

function Client:close()
  if not self.socket:is_closing() then self.socket:close() end
end
Client.__close = Client.close

--- Sends bytes and gives all that comes back, to the end.
local function exchange(server, bytes)
  local client <close> = connect(server)
  client:write(bytes)
  return client:expect()
end

local function get(path, headers)
  return ("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"):format(path, headers or "")
end
local CLOSE = "Connection: close\r\n"

local function post(path, body, headers)
  return ("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s"):format(path, #body, headers or "", body)
end

local function body_of(answer) return answer:match "\r\n\r\n(.*)$" end

local function error_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "no error was raised")
  return err
end

--- Answers with what it was asked.
local function echo(request, response)
  response:send(200, { ["content-type"] = "text/plain" }, request.method .. " " .. request.path .. request:body())
end

describe("an HTTP server", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  --- An `it` with a server. `failed` holds what `on_error` was told.
  local function serves(name, options, body)
    it(name, helper.task(function()
      local failed = {}
      local given = { handler = echo, on_error = function(err) table.insert(failed, err) end }
      for key, value in pairs(options) do given[key] = value end
      local server <close> = http.serve(given)
      body(server, failed)
    end))
  end

  describe("given a request", function()
    local seen
    serves("tells the handler what it asks", { handler = function(request, response)
      seen = request
      response:send(204)
    end }, function(server)
      local client <close> = connect(server)
      client:write(get("/a%20b?x=1&y=a+b%21&z&x=2", "Cookie: a\r\nX-Name: v\r\ncookie: b\r\n"))
      client:expect "204 No Content\r\n"
      assert.same({ "GET", "/a%20b", "/a%20b?x=1&y=a+b%21&z&x=2", "1.1", "127.0.0.1" },
        { seen.method, seen.path, seen.target, seen.version, seen.peer.host })
      assert.same({ x = "2", y = "a b!", z = "" }, seen.query)
      assert.same({ host = "x", cookie = "a, b", ["x-name"] = "v" }, seen.headers)
      assert.equal(client.socket:getsockname().port, seen.peer.port)
      assert.equal("a b", http.unescape "a%20b")
      client:write(get "http://other/path?q")
      client:expect "204.*204"
      assert.equal("/path", seen.path)
    end)

    serves("answers many on one connection, also when they came at once", { handler = function(request, response)
      if request.path == "/slow" then helper.tick() end
      echo(request, response)
    end }, function(server)
      local answer = exchange(server, get "/slow" .. post("/b", "BODY") .. get "/c" .. get("/d", CLOSE) .. get "/e")
      local bodies = {}
      for body in answer:gmatch "\r\n\r\n(%u+ [^H]*)" do table.insert(bodies, body) end
      assert.same({ "GET /slow", "POST /bBODY", "GET /c", "GET /d" }, bodies)
    end)

    serves("has no body for HEAD, and ends after one of HTTP/1.0", {}, function(server)
      local answer = exchange(server, "HEAD / HTTP/1.1\r\nHost: x\r\n" .. CLOSE .. "\r\n")
      assert.truthy(answer:find "content%-length: 6\r\n")
      assert.equal("", body_of(answer))
      assert.equal("GET /", body_of(exchange(server, "GET / HTTP/1.0\r\n\r\n")))
      local client <close> = connect(server)
      client:write "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
      client:expect "connection: keep%-alive\r\n.*GET /"
      client:write "GET /2 HTTP/1.0\r\n\r\n"
      assert.truthy(client:expect():find "GET /2$")
    end)

    serves("reads a body as it comes", { handler = function(request, response)
      response:start(200)
      for piece in request.read, request do response:write("<" .. piece .. ">") end
    end }, function(server)
      local client <close> = connect(server)
      client:write "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
      client:expect "\r\n4\r\n<ab>\r\n"
      client:write "1\r\nc\r\n0\r\n\r\n"
      client:expect "\r\n3\r\n<c>\r\n0\r\n\r\n"
    end)

    serves("asks for the body that a client holds back, once it is wanted", { handler = function(request, response)
      if request.path == "/no" then return response:send(403) end
      echo(request, response)
    end }, function(server)
      local client <close> = connect(server)
      client:write(post("/yes", "ab", "Expect: 100-continue\r\n"):sub(1, -3))
      assert.equal("HTTP/1.1 100 Continue\r\n\r\n", client:expect "\r\n\r\n")
      client:write "ab"
      client:expect "POST /yesab"
      assert.falsy(exchange(server, post("/no", "ab", "Expect: 100-continue\r\n"):sub(1, -3)):find " 100 ")
    end)
  end)

  describe("in its answers", function()
    local function answering(name, answer, check)
      serves(name, { handler = function(request, response) answer(response, request) end }, function(server, failed)
        check(exchange(server, get("/", CLOSE)), failed, server)
      end)
    end

    answering("sends headers of every kind", function(response)
      response:send(200, { ["set-cookie"] = { "a=1", "b=2" }, ["x-number"] = 5, date = "now" }, "x")
    end, function(answer)
      for _, line in ipairs { "set%-cookie: a=1", "set%-cookie: b=2", "x%-number: 5", "date: now" } do
        assert.truthy(answer:find("\r\n" .. line .. "\r\n"), answer)
      end
    end)

    answering("ends a body in chunks for the handler", function(response)
      response:start(200)
      response:write "abc"
      response:write ""
    end, function(answer) assert.equal("3\r\nabc\r\n0\r\n\r\n", body_of(answer)) end)

    serves("ends a body for HTTP/1.0 by ending the connection", { handler = function(_, response)
      response:start(200)
      response:write "abc"
    end }, function(server)
      local answer = exchange(server, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
      assert.equal("abc", body_of(answer))
      assert.truthy(answer:find "connection: close\r\n")
    end)

    answering("sends events and comments", function(response)
      response:event("tick", "one\ntwo\r\nthree", "7")
      response:comment()
      response:event(nil, "")
      response:finish()
    end, function(answer)
      local bytes = body_of(answer):gsub("%x+\r\n(.-)\r\n", "%1")
      assert.truthy(answer:find "content%-type: text/event%-stream\r\n")
      assert.equal("event: tick\nid: 7\ndata: one\ndata: two\ndata: three\n\n: \n\ndata: \n\n", bytes)
    end)

    for what, answer in pairs {
      ["the header 'x' must be text without control characters, not \"a\\13\\\nb: c\""] = function(response)
        response:send(200, { x = "a\r\nb: c" })
      end,
      ["a header's name must be a token, not \"x: y\\\n\""] = function(response)
        response:send(200, { ["x: y\n"] = "a" })
      end,
      ["the header 'transfer-encoding' is the server's to set"] = function(response)
        response:start(200, { ["Transfer-Encoding"] = "chunked" })
      end,
      ["the header 'content-length' says 5, and the body has 3 bytes"] = function(response)
        response:send(200, { ["Content-Length"] = 5 }, "abc")
      end,
      ["the header 'content-length' must be a number of bytes, not \"-1\""] = function(response)
        response:start(200, { ["content-length"] = "-1" })
      end,
      ["a status must be an integer from 200 to 999, not 100"] = function(response) response:send(100) end,
      ["an answer with status 204 has no body"] = function(response) response:send(204, {}, "x") end,
      ["an event's name must be one line of text, not \"a\\\nb\""] = function(response) response:event("a\nb", "") end,
    } do
      local raised
      answering("refuses what is none: " .. what, function(response)
        raised = error_of(answer, response)
        error(raised, 0)
      end, function(bytes, failed)
        assert.equal("ValueError", raised.code)
        assert.equal("parley.http: " .. what, raised.message)
        assert.same({ raised }, failed)
        assert.truthy(bytes:find "^HTTP/1.1 500 ")
      end)
    end

    for what, write in pairs {
      ["3 bytes were written"] = function(response) response:write "abc" end,
      ["6 bytes were written"] = function(response)
        response:write "abc"
        response:write "def"
      end,
    } do
      answering("cuts one that is not as long as it says: " .. what, function(response)
        response:start(200, { ["content-length"] = 5 })
        write(response)
      end, function(_, failed)
        assert.equal("parley.http: the header 'content-length' says 5, and " .. what, failed[1].message)
      end)
    end

    answering("says when it comes too late", function(response)
      assert.equal("ClosedError", error_of(response.write, response, "x").code)
      response:send(200)
      for _, name in ipairs { "send", "start", "write", "finish", "comment" } do
        assert.equal("ClosedError", error_of(response[name], response, name == "send" and 200 or "x").code)
      end
    end, function(answer, failed)
      assert.same({}, failed)
      assert.truthy(answer:find "^HTTP/1.1 200 OK\r\n")
    end)
  end)

  describe("whose handler fails", function()
    serves("answers 500 without a word of why, tells the script, and goes on", { handler = function(request, response)
      if request.path == "/bad" then error "secret" end
      if request.path == "/silent" then return end
      echo(request, response)
    end }, function(server, failed)
      local client <close> = connect(server)
      client:write(get "/bad" .. get "/silent" .. get("/good", CLOSE))
      local answer = client:expect()
      assert.truthy(answer:find "^HTTP/1.1 500 .*HTTP/1.1 500 .*GET /good$")
      assert.falsy(answer:find "secret" or answer:find "traceback")
      assert.matches("secret", failed[1])
      assert.equal("the handler gave no answer to GET /silent", failed[2].message)
    end)

    serves("cuts an answer that was begun", { handler = function(_, response)
      response:start(200)
      response:write "abc"
      error "late"
    end }, function(server, failed)
      assert.equal("3\r\nabc\r\n", body_of(exchange(server, get "/")))
      assert.matches("late", failed[1])
    end)

    for what, answer in pairs {
      ["of a length"] = function(response) response:send(200, {}, ("x"):rep(8 << 20)) end,
      ["in chunks"] = function(response)
        response:start(200)
        response:write(("x"):rep(8 << 20))
      end,
    } do
      serves("cuts an answer whose writing was given up, " .. what, { handler = function(request, response)
        if request.path == "/second" then return response:send(200, {}, "the second") end
        pcall(task.timeout, 50, answer, response)
      end }, function(server)
        local socket <close> = task.closing(uv.new_tcp())
        task.suspend(function(wake) socket.handle:connect("127.0.0.1", server.port, wake) end)
        socket.handle:write(get "/slow" .. get "/second")
        task.condition():wait(300) -- it reads nothing for a while
        local received, news = {}, task.channel(1)
        socket.handle:read_start(function(_, bytes)
          if bytes then table.insert(received, bytes) else news:close() end
        end)
        news:receive()
        assert.is_nil(table.concat(received):find("the second", 1, true))
      end)
    end

    it("tells standard error, when nobody else wants to know", helper.task(function()
      local program = helper.run { helper.host, "-e", [[
        local http, task, uv = require "parley.http", require "parley.task", require "luv"
        local server <close> = http.serve { handler = function() error "the reason" end }
        local socket = uv.new_tcp()
        task.suspend(function(wake) socket:connect("127.0.0.1", server.port, wake) end)
        socket:write "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        task.suspend(function(wake) socket:read_start(function(_, bytes) wake(bytes) end) end)
        socket:close()]] }
      assert.matches("^parley.http: GET /x: .*the reason\nstack traceback:", program.errors)
      assert.equal(0, program.status)
    end))
  end)

  describe("whose client goes away", function()
    for name, wait in pairs {
      ["waits"] = function() task.condition():wait() end,
      ["writes"] = function(response)
        response:start(200)
        while true do response:write(("x"):rep(10000)) end
      end,
      ["reads"] = function(_, request) request:body() end,
      ["waits in a task of its own"] = function()
        task.spawn(function() task.condition():wait() end)
      end,
    } do
      local began, outcome, is_clean
      serves("cancels the handler that " .. name, { handler = function(request, response)
        local _ <close> = setmetatable({}, { __close = function() is_clean = true end })
        began:notify()
        local _, err = pcall(function()
          wait(response, request)
          task.condition():wait()
        end)
        outcome:send(err)
        error(err, 0)
      end }, function(server, failed)
        began, outcome, is_clean = task.condition(), task.channel(1), false
        local client <close> = connect(server)
        client:write(post("/", "12345"):sub(1, name == "reads" and -3 or -1))
        client.socket:read_stop()
        began:wait()
        client:close()
        assert.equal("Cancelled", outcome:receive().code)
        helper.eventually(function() return is_clean and next(server.connections) == nil end)
        assert.same({}, failed)
      end)
    end
  end)

  describe("with a client that is slow", function()
    local written
    serves("holds the writer", { handler = function(_, response)
      response:start(200)
      for i = 1, 400 do
        response:write(("x"):rep(100000))
        written = i
      end
    end }, function(server)
      written = 0
      local client <close> = connect(server)
      client.socket:read_stop()
      client:write(get("/", CLOSE))
      local last = -1
      helper.eventually(function() -- until it stands still
        local is_still = written > 0 and last == written
        last = written
        return is_still
      end)
      assert.is_true(written < 300, written)
      local size = 0
      client.socket:read_start(function(_, bytes)
        if bytes then size = size + #bytes else client.ended = true end
        client.news:notify()
      end)
      while not client.ended do client.news:wait() end
      assert.is_true(size > 400 * 100000)
    end)

    local door, is_open
    serves("leaves the client waiting while the handler does not read", { handler = function(request, response)
      door:wait_until(function() return is_open end)
      local size = 0
      for piece in request.read, request do size = size + #piece end
      response:send(200, {}, tostring(size))
    end, limits = { body_bytes = 1 << 26 } }, function(server)
      door, is_open = task.condition(), false
      local client <close> = connect(server)
      local body = ("x"):rep(1 << 25)
      client:write(post("/", body, CLOSE))
      helper.eventually(function()
        local connection = next(server.connections)
        return connection and connection.request and not connection.is_reading
      end)
      assert.is_true(client.socket:get_write_queue_size() > 1 << 20) -- the rest is not with the server
      is_open = true
      door:notify()
      assert.equal(tostring(#body), body_of(client:expect()))
    end)
  end)

  describe("with limits", function()
    serves("refuses heads and bodies that are too large", {
      limits = { head_bytes = 200, headers = 3, body_bytes = 10 },
    }, function(server, failed)
      assert.truthy(exchange(server, get("/" .. ("a"):rep(200))):find "^HTTP/1.1 431 ")
      assert.truthy(exchange(server, get("/", "A: b\r\nC: d\r\nE: f\r\n")):find "^HTTP/1.1 431 ")
      assert.truthy(exchange(server, post("/", ("x"):rep(11))):find "^HTTP/1.1 413 ")
      local chunk = "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n"
      local head = "POST / HTTP/1.1\r\nHost: x\r\n"
      assert.truthy(exchange(server, head .. chunk .. "6\r\n123456\r\n0\r\n\r\n"):find "^HTTP/1.1 413 ")
      assert.equal("POST /123456", body_of(exchange(server, head .. CLOSE .. chunk .. "0\r\n\r\n")))
      assert.same({}, failed)
    end)

    serves("refuses what is no HTTP, also in the middle of a body", {}, function(server, failed)
      assert.truthy(exchange(server, "GET / HTTP/1.1\r\nHost : x\r\n\r\n" .. get "/"):find "^HTTP/1.1 400 .*name\n$")
      local head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      local client <close> = connect(server)
      client:write(head .. "1\r\nx\r\n")
      client:write "zz\r\n"
      assert.truthy(client:expect():find "^HTTP/1.1 400 ")
      assert.same({}, failed)
    end)

    serves("gives up on a head that does not come", { limits = { head_ms = 50 } }, function(server)
      local silent <close> = connect(server)
      local slow <close> = connect(server)
      slow:write "GET / HTTP/1.1\r\nHo"
      assert.truthy(slow:expect():find "^HTTP/1.1 408 ")
      assert.truthy(silent:expect():find "^HTTP/1.1 408 ")
    end)

    serves("gives up on a body, the next request, and a reader that does not come", {
      limits = { idle_ms = 50 }, handler = function(request, response)
        if request.path == "/large" then
          response:start(200)
          while true do response:write(("x"):rep(100000)) end
        end
        echo(request, response)
      end,
    }, function(server, failed)
      assert.truthy(exchange(server, post("/", "abc"):sub(1, -2)):find "^HTTP/1.1 408 ")
      assert.truthy(exchange(server, get "/"):find "^HTTP/1.1 200 .*GET /$")
      local client <close> = connect(server)
      client.socket:read_stop()
      client:write(get "/large")
      helper.eventually(function() return next(server.connections) ~= nil end)
      helper.eventually(function() return next(server.connections) == nil end)
      assert.same({}, failed)
    end)

    serves("refuses connections beyond, and leaves the others alone", { limits = { connections = 2 } }, function(server)
      local one <close> = connect(server)
      local two <close> = connect(server)
      assert.truthy(exchange(server, get "/"):find "^HTTP/1.1 503 ")
      for _, client in ipairs { one, two } do
        client:write(get("/", CLOSE))
        assert.truthy(client:expect():find "^HTTP/1.1 200 ")
      end
      assert.truthy(exchange(server, get("/", CLOSE)):find "^HTTP/1.1 200 ")
    end)

    serves("has those that wait for a request make room, the first to be late first", {
      limits = { connections = 3 }, makes_room = true }, function(server)
      local idle <close> = connect(server)
      idle:write(get "/")
      idle:expect "GET /$"
      local half <close> = connect(server)
      half:write "GET / HTTP/1.1\r\nHo"
      helper.eventually(function() return server.count == 2 end)
      local silent <close> = connect(server)
      task.condition():wait(200) -- none has just come
      assert.truthy(exchange(server, get("/", CLOSE)):find "^HTTP/1.1 200 ")
      half:expect()
      assert.is_false(silent.ended or idle.ended)
    end)

    serves("has no one make room who has just come, for a request may be there unread", {
      limits = { connections = 2 }, makes_room = true }, function(server)
      local clients, answers = {}, {}
      for i = 1, 6 do
        clients[i] = task.spawn(function() answers[i] = exchange(server, get("/", CLOSE)):match "^HTTP/1.1 (%d+) " end)
      end
      for _, client in ipairs(clients) do client:await() end
      table.sort(answers)
      assert.same({ "200", "200", "503", "503", "503", "503" }, answers)
    end)

    local connection
    serves("has no one make room the end of whose answer is still to be sent", {
      limits = { connections = 1 }, makes_room = true, handler = function(_, response)
        response:start(200)
        repeat response:write(("x"):rep(16000))
        until connection.is_closed or connection.socket:get_write_queue_size() > 0
      end,
    }, function(server)
      local slow <close> = connect(server)
      slow.socket:read_stop()
      helper.eventually(function() return next(server.connections) ~= nil end)
      connection = next(server.connections)
      slow:write(get "/")
      helper.eventually(function() return connection.sending > 0 and not connection.request end)
      task.condition():wait(200) -- it is not one that has just come
      assert.truthy(exchange(server, get "/"):find "^HTTP/1.1 503 ")
      slow:read_on()
      slow:expect "\r\n0\r\n\r\n$"
    end)

    for message, given in pairs {
      ["parley.http.serve: option 'handler' must be a function, not nothing"] = {},
      ["parley.http.serve has no option 'prot'; did you mean 'port'?"] = { handler = echo, prot = 1 },
      ["parley.http.serve: option 'port' must be a port, not 70000"] = { handler = echo, port = 70000 },
      ["parley.http.serve: option 'host' must be an address, as 127.0.0.1 or ::1, not \"localhost\""] =
        { handler = echo, host = "localhost" },
      ["parley.http.serve: option 'host' must be an address, as 127.0.0.1 or ::1, not \"127.1\""] =
        { handler = echo, host = "127.1" },
      ["parley.http.serve: limits has no option 'head_byte'; did you mean 'head_bytes'?"] =
        { handler = echo, limits = { head_byte = 1 } },
      ["parley.http.serve: limits: option 'idle_ms' must be more than 0, not 0"] =
        { handler = echo, limits = { idle_ms = 0 } },
    } do
      it("is refused when it is asked for wrongly: " .. message, function()
        local err = error_of(http.serve, given)
        assert.equal("ValueError", err.code)
        assert.equal(message, err.message)
      end)
    end
  end)

  describe("on a unix socket", function()
    it("serves its user alone, and leaves no file", helper.task(function()
      local path = helper.temporary_folder() .. "/socket"
      do
        local server <close> = http.serve { path = path, handler = echo }
        assert.equal(tonumber("600", 8), uv.fs_stat(path).mode & tonumber("777", 8))
        assert.equal("GET /u", body_of(exchange(server, get("/u", CLOSE))))
        assert.equal("EADDRINUSE", error_of(http.serve, { path = path, handler = echo }).code)
      end
      assert.is_nil(uv.fs_stat(path))
    end))

    it("whose path is longer than the system takes is refused, and leaves none of another name", helper.task(function()
      local folder = helper.temporary_folder()
      local path = folder .. "/" .. ("x"):rep(106 - #folder)
      do
        local _ <close> = http.serve { path = path, handler = echo }
        assert.is_not_nil(uv.fs_stat(path))
      end
      local err = error_of(http.serve, { path = path .. "y", handler = echo })
      assert.equal("ValueError", err.code)
      assert.matches("'path' must be the path of a socket, at most 107 bytes, not ", err.message, 1, true)
      assert.same({}, helper.names_in(folder))
    end))
  end)

  describe("that is closed", function()
    local began, is_clean
    local function hang(_, response)
      local _ <close> = setmetatable({}, { __close = function() is_clean = true end })
      response:start(200)
      response:write "abc"
      began:notify()
      task.condition():wait()
    end

    serves("ends its handlers and connections first, and its port is free", { handler = hang }, function(server, failed)
      began, is_clean = task.condition(), false
      local idle <close> = connect(server)
      local client <close> = connect(server)
      client:write(get "/")
      began:wait()
      server:close()
      assert.is_true(is_clean)
      assert.equal("3\r\nabc\r\n", body_of(client:expect()))
      assert.equal("", idle:expect())
      server:close()
      http.serve({ port = server.port, handler = echo }):close()
      assert.same({}, failed)
    end)

    local own
    serves("by a handler of its own does not wait for itself", { handler = function(_, response)
      response:send(200, { connection = "close" }, "bye")
      own:close()
      own:close()
    end }, function(server)
      own = server
      assert.equal("bye", body_of(exchange(server, get "/")))
      assert.is_true(pcall(server.scope.await, server.scope) or server.scope:is_done())
    end)

    it("serves outside of any task, too", function()
      local server = http.serve { handler = echo }
      helper.task(function() assert.equal("GET /", body_of(exchange(server, get("/", CLOSE)))) end)()
      server:close()
    end)

    it("ends with the task that began it", helper.task(function()
      local port
      local child = task.spawn(function()
        port = http.serve({ handler = echo }).port
        error(errors.value_error "enough", 0)
      end)
      assert.equal("enough", error_of(child.await, child).message)
      http.serve({ port = port, handler = echo }):close()
    end))
  end)

  it("holds many connections", helper.task(function()
    local count = helper.long(2000, 10000)
    local server <close> = http.serve { handler = echo, limits = { connections = count + 1 } }
    local program <close> = helper.start({ helper.host, "-e", [[
      local task, uv = require "parley.task", require "luv"
      local port, count = tonumber(arg[1]), tonumber(arg[2])
      local sockets, answered, news = {}, 0, task.condition()
      for i = 1, count do
        local socket = uv.new_tcp()
        sockets[i] = socket
        task.suspend(function(wake) socket:connect("127.0.0.1", port, wake) end)
        socket:read_start(function(err, bytes)
          assert(bytes and bytes:find("^HTTP/1.1 200 "), err or bytes or "the end")
          answered = answered + 1
          news:notify()
        end)
      end
      for _, socket in ipairs(sockets) do socket:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") end
      while answered < count do news:wait() end
      print "answered"
      io.stdout:flush()
      task.condition():wait()]], tostring(server.port), tostring(count) })
    program:expect "answered"
    assert.equal(count, server.count)
    assert.equal("GET /", body_of(exchange(server, get("/", CLOSE))))
    program:kill "sigkill"
    helper.eventually(function() return server.count == 0 end)
  end))
end)
