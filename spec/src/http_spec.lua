local http = require("parley.core").http

local HEAD_LIMIT, HEADER_LIMIT = 400, 8

--- Reads pieces, one after the other. Gives what a server would see: heads, bodies, and an error in the end.
local function read(pieces, head_limit)
  local parser <close> = http.new(head_limit or HEAD_LIMIT, HEADER_LIMIT)
  local seen, body = {}, {}
  for _, piece in ipairs(pieces) do
    local from = 1
    repeat
      local event, next, bytes = parser:feed(piece, from)
      if not event then
        assert.equal("EPROTO", next.code)
        assert.same({ nil, next }, { parser:feed "GET / HTTP/1.1\r\n" }) -- once and for all
        table.insert(seen, ("%d %s"):format(next.status, next.message))
        return seen
      end
      table.insert(body, bytes)
      if event == "head" then
        table.insert(seen, parser:head())
      elseif event == "end" then
        table.insert(seen, table.concat(body))
        body = {}
      end
      from = next
    until event == "more"
  end
  if body[1] then table.insert(seen, "part: " .. table.concat(body)) end
  return seen
end

local function lines(...) return table.concat({ ... }, "\r\n") .. "\r\n\r\n" end

local HOST = "Host: x"
local CHUNKED = lines("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked")

local SOUND = {
  lines("GET /a?b=c HTTP/1.1", HOST),
  lines("GET / HTTP/1.0"),
  "\r\n" .. lines("OPTIONS * HTTP/1.1", HOST, "Empty:", "White: \t a b \t ", "Twice: 1", "TWICE: 2", "Latin: \xe4"),
  lines("POST / HTTP/1.1", HOST, "Content-Length: 5") .. "hello" .. lines("HEAD /next HTTP/1.1", HOST),
  lines("POST / HTTP/1.1", HOST, "content-length: 0") .. lines("GET / HTTP/1.1", HOST, "Connection: close"),
  CHUNKED .. "5\r\nhello\r\n01;name=\"value\"\r\n\r\r\nA\r\n0123456789\r\n0\r\n\r\n" .. lines("GET / HTTP/1.1", HOST),
  CHUNKED .. "2\r\n\r\n\r\n000\r\nTrailer: one\r\nOther: two\r\n\r\n" .. CHUNKED .. "0\r\n\r\n",
  lines("POST / HTTP/1.1", HOST, "Upgrade: h2c", "Connection: Upgrade", "Content-Length: 2") .. "xy"
    .. lines("GET / HTTP/1.1", HOST),
  lines("POST / HTTP/1.1", HOST, "Content-Length: 9") .. "part",
}

-- What another reader of the same bytes could take for something else, and what is no HTTP.
local REFUSED = {
  ["400 white space in a header's name"] = {
    lines("GET / HTTP/1.1", "Host : x"), lines("GET / HTTP/1.1", HOST, "Content-Length\t: 1"),
    lines("GET / HTTP/1.1", HOST, "A B: c"),
  },
  ["400 a folded header"] = {
    lines("GET / HTTP/1.1", HOST, "A: b", " c: d"), lines("GET / HTTP/1.1", "\tHost: x"),
  },
  ["400 a line feed without a carriage return"] = {
    "GET / HTTP/1.1\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\n",
    "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", CHUNKED .. "1;a\nb\r\nx\r\n0\r\n\r\n",
  },
  ["400 a carriage return without a line feed"] = {
    lines("GET / HTTP/1.1", "Host: x\rA: b"), "GET / HTTP/1.1\r\rHost: x\r\n\r\n",
  },
  ["400 a control character"] = {
    lines("GET / HTTP/1.1", "Host: x\0"), lines("GET / HTTP/1.1", HOST, "A: \27[m"), lines("GET / HTTP/1.1", "A: \127"),
    CHUNKED .. "1;a\0b\r\nx\r\n0\r\n\r\n",
  },
  ["400 a request line with white space in a wrong place"] = {
    lines(" GET / HTTP/1.1", HOST), lines("GET  / HTTP/1.1", HOST), lines("GET /  HTTP/1.1", HOST),
  },
  ["400 a request line with a character that must be escaped"] = {
    lines("GET /\xc3\xa4 HTTP/1.1", HOST), lines("GET\t/ HTTP/1.1", HOST),
  },
  ["400 a protocol that is not HTTP"] = {
    lines "OPTIONS / RTSP/1.0", lines("DESCRIBE /x RTSP/1.1", HOST), lines "SOURCE /x ICE/1.0",
  },
  ["400 no Host"] = { lines("GET / HTTP/1.1"), lines("GET / HTTP/1.1", "X-Host: x") },
  ["400 more than one Host"] = { lines("GET / HTTP/1.1", HOST, "host: y"), lines("GET / HTTP/1.0", HOST, HOST) },
  ["400 a transfer-encoding in HTTP/1.0"] = { lines("POST / HTTP/1.0", "Transfer-Encoding: chunked") },
  ["501 a transfer-encoding that is not chunked"] = {
    lines("POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"),
    lines("POST / HTTP/1.1", HOST, "Transfer-Encoding: identity"),
  },
  ["501 this is no proxy"] = { lines("CONNECT x:443 HTTP/1.1", HOST) },
  ["413 a body that is too large"] = { lines("POST / HTTP/1.1", HOST, "Content-Length: 9223372036854775808") },
  ["431 a head that is too large"] = {
    lines("GET /" .. ("a"):rep(HEAD_LIMIT) .. " HTTP/1.1", HOST), ("\r\n"):rep(201),
  },
  ["431 too many headers"] = { lines("GET / HTTP/1.1", HOST, ("A: b\r\n"):rep(8) .. "C: d") },
  ["400 too much around the chunks of a body"] = {
    CHUNKED .. "1;" .. ("x"):rep(500) .. "\r\nx\r\n0\r\n\r\n", CHUNKED .. "0\r\n" .. ("A: b\r\n"):rep(80) .. "\r\n",
  },
  -- In llhttp's own words, which are not ours to promise.
  ["400 "] = {
    "nonsense\r\n\r\n", lines("GET / HTTP/1.1", HOST, "no colon"), lines("GET / HTTP/1.1", HOST, ": b"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: -1"), lines("POST / HTTP/1.1", HOST, "Content-Length: +1"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: 1 1"), lines("POST / HTTP/1.1", HOST, "Content-Length: 1,1"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: 0x1"), lines("POST / HTTP/1.1", HOST, "Content-Length:"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: 99999999999999999999"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: 1", "Content-Length: 1"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: 1", "Content-Length: 2"),
    lines("POST / HTTP/1.1", HOST, "Content-Length: 4", "Transfer-Encoding: chunked"),
    lines("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked", "Content-Length: 4"),
    CHUNKED .. "xyz\r\n", CHUNKED .. "\r\n", CHUNKED .. "1 \r\nx\r\n", CHUNKED .. "-1\r\nx\r\n",
    CHUNKED .. "0x1\r\nx\r\n", CHUNKED .. "1\r\nxy\r\n", CHUNKED .. "1\nx\r\n0\r\n\r\n",
    CHUNKED .. "1\r\nx\n0\r\n\r\n",
    CHUNKED .. "fffffffffffffffff\r\nx", CHUNKED .. "0\r\nA b: c\r\n\r\n",
    CHUNKED .. "0\r\nA: b\r\n c\r\n\r\n",
    lines("PRI * HTTP/2.0"), lines("GET / HTTP/2.0", HOST), lines("GET / HTTP/1.2", HOST),
    lines("GET / http/1.1", HOST),
    lines("get / HTTP/1.1", HOST), lines("GET /", HOST), lines("GET / HTTP/0.9"), lines("GET / ICE/1.0", HOST),
  },
}

describe("http", function()
  it("tells what a head says", function()
    assert.same({
      { method = "GET", target = "/a?b=c", minor = 1, keeps_alive = true, chunked = false, length = 0,
        headers = { host = "x" } }, "" }, read { SOUND[1] })
    assert.same({ host = "x", empty = "", white = "a b", twice = "1, 2", latin = "\xe4" },
      read({ SOUND[3] })[1].headers)
    assert.is_false(read({ SOUND[2] })[1].keeps_alive)
    assert.equal(", a, , b", read({ lines("GET / HTTP/1.1", HOST, "A:", "a: a", "a:", "A: b") })[1].headers.a)
  end)

  it("reads bodies by length and by chunks, and one request after the other", function()
    assert.equal("hello", read({ SOUND[4] })[2])
    assert.equal("/next", read({ SOUND[4] })[3].target)
    assert.equal("hello\r0123456789", read({ SOUND[6] })[2])
    assert.is_true(read({ SOUND[6] })[1].chunked)
    assert.equal("GET", read({ SOUND[6] })[3].method)
    assert.equal("xy", read({ SOUND[8] })[2])
    assert.equal("part: part", read({ SOUND[9] })[2])
  end)

  for message, all in pairs(REFUSED) do
    for _, bytes in ipairs(all) do
      it(("refuses %q: %s"):format(#bytes > 100 and bytes:sub(1, 90) .. "…" or bytes, message), function()
        local seen = read { bytes }
        local said = seen[#seen]
        assert.equal("string", type(said), "it was let pass")
        assert.truthy(message == "400 " and said:find "^[45]0%d " or said == message, said)
      end)
    end
  end

  it("gives the same, wherever the bytes are cut", function()
    local corpus = { table.unpack(SOUND) }
    for _, all in pairs(REFUSED) do table.move(all, 1, #all, #corpus + 1, corpus) end
    for _, bytes in ipairs(corpus) do
      local whole, each = read { bytes }, {}
      for cut = 1, #bytes do
        assert.same(whole, read { bytes:sub(1, cut), bytes:sub(cut + 1) }, bytes)
        each[cut] = bytes:sub(cut, cut)
      end
      assert.same(whole, read(each), bytes)
    end
  end)

  it("takes a head of just its limit, and no byte more", function()
    local head = lines("GET / HTTP/1.1", HOST)
    assert.equal("", read({ head }, #head)[2])
    assert.same({ "431 a head that is too large" }, read({ head }, #head - 1))
  end)

  it("says what is wrong with a call", function()
    local parser = http.new(100, 10)
    assert.has_error(function() parser:head() end, "the head of a request is there only after the event 'head'")
    assert.has_error(function() http.new(0, 1) end)
    assert.has_error(function() parser:feed("abc", 5) end)
    parser:close()
    parser:close()
    local event, err = parser:feed "GET"
    assert.is_nil(event)
    assert.equal("EBADF", err.code)
    assert.equal("parley.http (the parser is closed)", tostring(parser))
  end)
end)
