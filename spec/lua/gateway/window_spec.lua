-- The window's routes over the simulated claude.
local core = require "parley.core"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local task = require "parley.base.task"
local windows = require "parley.gateway.window"

--- A stream as a page reads it: what the terminal shows, the conversation, the lines.
local function watch(gateway, id, headers)
  local reader = gateway:open("/sessions/" .. id .. "/stream", "", headers, "GET")
  local seen = { reader = reader, looks = {}, pieces = {}, at = 1 }
  local takes = {}
  function takes.snapshot(data)
    seen.screen = core.screen.new(data.rows, data.columns)
    seen.screen:feed(core.text.from_base64(data.data))
    seen.to = data.to
  end
  function takes.bytes(data)
    assert.equal(seen.to, data.from)
    seen.screen:feed(core.text.from_base64(data.data))
    seen.to = data.to
  end
  function takes.conversation(data)
    for i = #seen.pieces, data.from + 1, -1 do seen.pieces[i] = nil end
    for _, piece in ipairs(data.pieces) do table.insert(seen.pieces, piece.who .. ": " .. piece.text) end
  end
  function takes.session(data) seen.line = data end
  function takes.sessions(data) seen.lines = data end
  function takes.gone() seen.is_gone = true end
  --- Waits until what is seen fits.
  function seen:expect(fits)
    local function look()
      local text = gateways.unchunked(reader.text)
      for name, data, past in text:sub(self.at):gmatch "event: (%l+)\n[^\n]-\n?data: ([^\n]*)\n\n()" do
        table.insert(self.looks, name)
        takes[name](core.json.decode(data))
        self.past = past
      end
      self.at = self.at + (self.past or 1) - 1
      self.past = nil
      return fits(self) or reader.has_ended
    end
    reader.news:wait_until(look, 60000)
    assert.is_truthy(fits(self), reader.text:sub(-2000))
  end
  function seen:shows(text)
    self:expect(function() return self.screen and self.screen:text():find(text, 1, true) end)
  end
  return setmetatable(seen, { __close = function() reader:close() end })
end

local function only_id(gateway)
  local lines = gateway:request "/sessions".json
  assert.equal(1, #lines)
  return lines[1].id
end

local function take(gateway, id, query)
  local answer = gateway:request(("/sessions/%s/take%s"):format(id, query or ""), "")
  assert.equal(200, answer.status, answer.body)
  return answer.json.hold
end

local function type_keys(gateway, id, hold, bytes)
  return gateway:request(("/sessions/%s/keys"):format(id), bytes, { ["parley-hold"] = hold })
end

local function give_back(gateway, id, hold)
  local answer = gateway:request(("/sessions/%s/give-back"):format(id), "", { ["parley-hold"] = hold })
  return answer
end

local function said(...)
  local messages = {}
  for i, text in ipairs { ... } do
    messages[i] = { role = i % 2 == 1 and "user" or "assistant", content = text }
  end
  return messages
end

local SLOW = { script = { answers = { { on = "slow", text = "slow answer", delay_ms = 1500 } } } }

describe("the window", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    windows.VANISH_MS = 60000
    check_leaks()
  end)

  local function serves(...) it(gateways.serves(...)) end

  serves("lists the sessions", function(gateway)
    assert.same({}, { table.unpack(gateway:request "/sessions".json) })
    gateway:ask "one"
    local line = gateway:request "/sessions".json[1]
    assert.equal("ready", line.state)
    assert.equal("waits for a message", line.doing)
    assert.equal(gateway.server.plain_folder, line.folder)
    assert.equal("sonnet", line.model)
    assert.equal(1, line.turns)
    assert.is_true(line.output_tokens > 0 and line.input_tokens > 0)
  end)

  local LONG = "a" .. ("ü"):rep(300)
  serves("lists one whose call is long, cut between two letters", { is_agent = true, kit = { script = { answers = {
    { on = "go", tool = { name = "Bash", input = { command = LONG }, result = "x", duration_ms = 1500 } } } } } },
    function(gateway)
      local asking = task.spawn(gateway.ask, gateway, "go")
      helper.eventually(function()
        local answer = gateway:request "/sessions"
        assert.equal(200, answer.status, answer.body)
        return answer.body:find("Bash: aüü", 1, true)
      end)
      asking:await()
    end)

  serves("gives back once, whoever asks how often", function(gateway)
    gateway:ask "one"
    local id, backend, count = only_id(gateway), gateway.server.backend, 0
    local hold, original = take(gateway, id), backend.give_back
    backend.give_back = function(...)
      count = count + 1
      return original(...)
    end
    type_keys(gateway, id, hold, "x")
    local both = { task.spawn(give_back, gateway, id, hold), task.spawn(give_back, gateway, id, hold) }
    for _, each in ipairs(both) do assert.equal(200, each:await().status) end
    assert.equal(1, count)
  end)

  serves("gives what a lost answer had to whoever asks again by the same name, and to nobody else", function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local function take_as(person)
      return gateway:request(("/sessions/%s/take"):format(id), "", { ["parley-person"] = person })
    end
    local first = take_as "ada"
    assert.same({ 200, 200 }, { first.status, take_as("ada").status })
    assert.equal(first.json.hold, take_as("ada").json.hold)
    assert.equal(409, take_as("bob").status)
    assert.equal(409, take_as(nil).status)
    assert.equal(200, give_back(gateway, id, first.json.hold).status)
    assert.not_equal(first.json.hold, take_as("ada").json.hold)
  end)

  serves("forgets no page because of another person's", function(gateway)
    local window = gateway.server.window
    local mine = { authorization = "Bearer " .. window:login "me" }
    for _ = 1, 2000 do window:login "you" end
    assert.equal("me", window:owner(mine))
  end)

  serves("gives nothing back while what was typed just before may begin a turn", { kit = SLOW }, function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local hold, holds = take(gateway, id), gateway.server.window.holds
    holds:type(holds.by_id[hold], "slow\r")
    assert.equal("busy", helper.error_of(holds.give_back, holds, holds.by_id[hold]).reason)
    helper.eventually(function() return give_back(gateway, id, hold).status == 200 end)
    assert.same({ "one", "slow" }, gateway.kit:taken())
  end)

  serves("ends an answer that is a head alone, of the live list, too", function(gateway)
    local headers = { accept = "text/event-stream", connection = "close" }
    local reader <close> = gateway:open("/sessions", "", headers, "HEAD")
    assert.is_true(reader.news:wait_until(function() return reader.has_ended end, 20000))
    assert.matches("^HTTP/1%.1 200 .*\r\n\r\n$", reader.text)
    assert.matches("content%-type: text/event%-stream", reader.text)
  end)

  serves("shows nobody another's sessions", function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local yours = { ["x-api-key"] = "your-token-0123456789" }
    assert.same({}, { table.unpack(gateway:request("/sessions", nil, yours).json) })
    for what, status in pairs { take = 404, keys = 409, ["give-back"] = 409 } do
      assert.equal(status, gateway:request(("/sessions/%s/%s"):format(id, what), "", yours).status)
    end
    assert.equal(404, gateway:request(("/sessions/%s/stream"):format(id), nil, yours).status)
    assert.equal(404, gateway:request(("/sessions/%s/messages"):format(id), nil, yours).status)
  end)

  serves("streams a terminal, the conversation beside it and the list, to two at a time", { kit = SLOW },
    function(gateway)
      gateway:ask "one"
      local id = only_id(gateway)
      local first <close> = watch(gateway, id)
      local second <close> = watch(gateway, id)
      first:shows "echo: one"
      second:shows "echo: one"
      local asking = task.spawn(gateway.ask, gateway, said("one", "echo: one", "slow"))
      first:expect(function() return first.line and first.line.state == "busy" end)
      asking:await()
      for _, each in ipairs { first, second } do
        each:shows "slow answer"
        each:expect(function()
          return table.concat(each.pieces, "|") == "you: one|claude: echo: one|you: slow|claude: slow answer"
        end)
        each:expect(function() return each.lines[1].turns == 2 end)
      end
      local third <close> = watch(gateway, id) -- as after a reload
      third:shows "slow answer"
      assert.same(first.screen:rows(), third.screen:rows())
    end)

  serves("asks for a token, or for a page's secret, which opens the window alone", function(gateway)
    assert.equal(401, gateway:request("/sessions", nil, { ["x-api-key"] = false }).status)
    assert.equal(401, gateway:request("/login", "", { ["x-api-key"] = "wrong-0123456789" }).status)
    local secret = gateway:request("/login", "").json.secret
    local page = { ["x-api-key"] = false, authorization = "Bearer " .. secret }
    assert.equal(200, gateway:request("/sessions", nil, page).status)
    assert.equal(401, gateway:request("/v1/models", nil, page).status)
    page.authorization = page.authorization .. "0"
    assert.equal(401, gateway:request("/sessions", nil, page).status)
  end)

  serves("refuses other pages, and names that are not its own", function(gateway)
    local host = "127.0.0.1:" .. gateway.server.port
    for _, headers in ipairs { { origin = "http://evil.example" }, { origin = "http://127.0.0.1:1" },
      { origin = "null" }, { ["sec-fetch-site"] = "cross-site" }, { ["sec-fetch-site"] = "same-site" },
      { host = "evil.example" } } do
      assert.equal(403, gateway:request("/sessions", nil, headers).status)
      assert.equal(403, gateway:request("/login", "", headers).status)
    end
    assert.equal(200, gateway:request("/login", "", { origin = "http://" .. host,
      ["sec-fetch-site"] = "same-origin" }).status)
    assert.equal(200, gateway:request("/login", "", { origin = "https://" .. host }).status)
  end)

  serves("has a person take a session over, type into it and give it back as what it is then", function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local hold = take(gateway, id)
    local held <close> = watch(gateway, id, { ["parley-hold"] = hold })
    held:expect(function() return held.line and held.line.state == "taken" end)
    assert.equal("is in the hands of me", held.line.doing)
    assert.equal(409, gateway:request(("/sessions/%s/take"):format(id), "").status)
    local refused = gateway:ask(said("one", "echo: one", "two"))
    assert.equal(409, refused.status)
    assert.equal("10", refused.headers["retry-after"])
    assert.equal(409, type_keys(gateway, id, "hold-0", "x").status)
    assert.equal(200, type_keys(gateway, id, hold, "by hand").status)
    held:shows "by hand"
    assert.equal(200, type_keys(gateway, id, hold, "\r").status)
    held:shows "echo: by hand"
    helper.eventually(function() return give_back(gateway, id, hold).status == 200 end)
    assert.equal(409, type_keys(gateway, id, hold, "x").status)
    held:expect(function() return held.line.state == "ready" end)
    held:shows "echo: by hand" -- the next process has it from the transcript
    local messages = gateway:request(("/sessions/%s/messages"):format(id)).json
    assert.equal(4, #messages)
    table.insert(messages, { role = "user", content = "three" })
    assert.equal("echo: three", gateways.text_of(gateway:ask(messages).json))
    assert.equal(id, only_id(gateway))
    assert.same({ "one", "by hand", "three" }, gateway.kit:taken())
    gateway:ask(said("one", "echo: one", "two")) -- what was asked before is no longer this session's
    assert.equal(2, #gateway:request "/sessions".json)
  end)

  serves("gives it back as it was when nothing was typed", function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local hold = take(gateway, id)
    assert.equal(200, give_back(gateway, id, hold).status)
    assert.equal(200, gateway:ask(said("one", "echo: one", "two")).status)
    assert.equal(1, #gateway.kit:events "started")
  end)

  serves("takes over when the turn has ended, or says at once that one runs", { kit = SLOW }, function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local asking = task.spawn(gateway.ask, gateway, said("one", "echo: one", "slow"))
    helper.eventually(function() return gateway:request "/sessions".json[1].state == "busy" end)
    local refused = gateway:request(("/sessions/%s/take"):format(id), "")
    assert.equal(409, refused.status)
    assert.matches("a turn runs", refused.json.error.message)
    local hold = take(gateway, id, "?wait=60")
    assert.equal(200, asking:await().status)
    assert.equal(200, give_back(gateway, id, hold).status)
    assert.equal(200, gateway:ask(said("one", "echo: one", "slow", "slow answer", "on")).status)
    assert.equal(1, #gateway.kit:events "started")
  end)

  serves("gives back by itself what a person has left", function(gateway)
    gateway:ask "one"
    local id = only_id(gateway)
    local hold = take(gateway, id)
    do
      local held <close> = watch(gateway, id, { ["parley-hold"] = hold })
      held:expect(function() return held.line and held.line.state == "taken" end)
      gateway.server.window.holds.vanish_ms = 50
    end
    helper.eventually(function() return gateway:request "/sessions".json[1].state == "ready" end)
    assert.equal(200, gateway:ask(said("one", "echo: one", "two")).status)
  end)

  serves("has the page, which lets nothing in from elsewhere", function(gateway)
    local answer = gateway:request("/", nil, { ["x-api-key"] = false })
    if not require "parley.gateway.window.assets".has_page() then
      assert.equal(404, answer.status)
      return
    end
    assert.equal(200, answer.status)
    assert.matches("default-src 'none'; script-src 'self'; style-src 'self'", answer.headers["content-security-policy"],
      1, true)
    for address in answer.body:gmatch '="(/[^"]*)"' do
      assert.equal(200, gateway:request(address, nil, { ["x-api-key"] = false }).status, address)
    end
    assert.is_nil(answer.body:find("<script>", 1, true) or answer.body:find("style=", 1, true))
  end)
end)
