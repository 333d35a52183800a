-- Which session a request goes to: by its header, its calls, its whole history; and never another's.
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local task = require "parley.base.task"

local function said(...)
  local messages = {}
  for i, text in ipairs { ... } do
    messages[i] = { role = i % 2 == 1 and "user" or "assistant", content = text }
  end
  return messages
end

describe("a conversation", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    check_leaks()
    helper.remove_folders()
  end)

  local function serves(...) it(gateways.serves(...)) end
  local function starts(gateway) return #gateway.kit:events "started" end

  --- Whether the second turn of a conversation went on in the first one's session.
  local function goes_on(gateway, first, second)
    gateway:ask("one", first and first.fields, first and first.headers)
    local before = starts(gateway)
    gateway:ask(said("one", "echo: one", "two"), second and second.fields, second and second.headers)
    return starts(gateway) == before
  end

  serves("goes on with other thoughts of the same client", function(gateway)
    assert.is_true(goes_on(gateway))
  end)

  for what, second in pairs {
    ["of another token"] = { headers = { ["x-api-key"] = "your-token-0123456789" } },
    ["with another system prompt"] = { fields = { system = "Be brief." } },
    ["with other tools"] = { fields = { tools = { { name = "a", input_schema = { type = "object" } } } } },
    ["of another header"] = { headers = { ["parley-conversation"] = "b" } },
    ["with another effort"] = { fields = { output_config = { effort = "low" } } },
  } do
    serves("is another one's " .. what, function(gateway) assert.is_false(goes_on(gateway, nil, second)) end)
  end

  serves("goes on with another model in its own transcript", function(gateway)
    assert.is_false(goes_on(gateway, nil, { fields = { model = "haiku" } })) -- its program was started anew
    local argv = select(2, next(gateway.server.backend:live_sessions())).argv
    assert.equal("--resume", argv[2])
    assert.equal(1, gateway.server.backend:live_session_count())
  end)

  serves("that two have had alike begins anew: nobody can tell which of them is meant", function(gateway)
    gateway:ask "one"
    gateway:ask "one"
    assert.equal(2, starts(gateway))
    gateway:ask(said("one", "echo: one", "two"))
    assert.equal(3, starts(gateway))
  end)

  serves("that two have had alike begins anew when one of them sleeps, or both do", function(gateway)
    for _ = 1, 2 do
      gateway:ask "one"
      for _, process in pairs(gateway.server.backend:live_sessions()) do process:signal "SIGKILL" end
      helper.eventually(function() return gateway.server.backend:live_session_count() == 0 end)
    end
    gateway:ask(said("one", "echo: one", "two"))
    local argv = select(2, next(gateway.server.backend:live_sessions())).argv
    assert.equal("--resume", argv[2]) -- a written history, under an id of its own
    for _, entry in ipairs(gateway.kit:events "started") do assert.not_equal(entry.session_id, argv[3]) end
    assert.equal(3, starts(gateway))
  end)

  serves("of a header is its own, however many are alike", function(gateway)
    for _, id in ipairs { "a", "b" } do gateway:ask("one", nil, { ["parley-conversation"] = id }) end
    for _, id in ipairs { "a", "b" } do
      gateway:ask(said("one", "echo: one", "two " .. id), nil, { ["parley-conversation"] = id })
    end
    assert.equal(2, starts(gateway))
  end)

  serves("whose header is no word is refused", function(gateway)
    for _, id in ipairs { "a b", ("x"):rep(201), "a/../b" } do
      assert.equal(400, gateway:ask("one", nil, { ["parley-conversation"] = id }).status)
    end
  end)

  serves("that was taken back begins anew with what is left", function(gateway)
    gateway:ask "one"
    gateway:ask(said("one", "echo: one", "two"))
    assert.equal("echo: three", gateways.text_of(gateway:ask(said("one", "echo: one", "three")).json))
    assert.equal(2, starts(gateway))
    gateway:ask(said("one", "echo: one", "two", "echo: two", "four")) -- the first is still there
    assert.equal(2, starts(gateway))
  end)

  serves("of many at a time never crosses another", { max_sessions = 6, queue = 100 }, function(gateway)
    local COUNT, TURNS = helper.long(12, 50), helper.long(4, 10)
    local order, talks = {}, {}
    for number = 1, COUNT do
      talks[number] = { messages = {}, lock = task.semaphore(1) }
      for _ = 1, TURNS do table.insert(order, number) end
    end
    for i = #order, 2, -1 do
      local j = (i * 7919 + 13) % i + 1
      order[i], order[j] = order[j], order[i]
    end
    local places = task.semaphore(12)
    for i, number in ipairs(order) do
      local place = places:acquire()
      task.spawn(function()
        local _ <close> = place
        local talk = talks[number]
        local _ <close> = talk.lock:acquire()
        local text = ("conversation %d, turn %d"):format(number, #talk.messages // 2 + 1)
        table.insert(talk.messages, { role = "user", content = text })
        local answer = gateway:ask(talk.messages, { stream = i % 2 == 0 })
        assert.equal(200, answer.status, answer.body)
        local message = i % 2 == 0 and gateways.assemble(answer.body) or answer.json
        assert.equal("echo: " .. text, gateways.text_of(message))
        table.insert(talk.messages, { role = "assistant", content = message.content })
      end)
    end
    for _ = 1, 12 do places:acquire() end
    assert.equal(COUNT * TURNS, #gateway.kit:taken())
    local seen = {}
    for _, text in ipairs(gateway.kit:taken()) do
      assert.is_nil(seen[text], "twice: " .. text)
      seen[text] = true
    end
  end)

  local POLICY = [[
local M = {}
function M.route(request)
  if request.http.headers["user-agent"] == "bad" then return nil, "not for you" end
  if request.http.headers["x-api-key"] or request.http.headers.authorization then return nil, "it sees the token" end
  if request.http.client == "you" then return { options = { model = "haiku" } } end
  return {}
end
return M]]

  it("may be routed by a policy, which sees the request without its token", helper.task(function()
    local path = helper.write(helper.temporary_folder() .. "/routing.lua", POLICY)
    local gateway <close> = gateways.start { backend = { policies = { routing = path } } }
    assert.is_true(goes_on(gateway))
    local answer = gateway:ask("hello", nil, { ["user-agent"] = "bad" })
    assert.same({ 403, "permission_error" }, { answer.status, answer.json.error.type })
    assert.matches("not for you", answer.json.error.message, 1, true)
    gateway:ask("hello", nil, { ["x-api-key"] = "your-token-0123456789" })
    local models = {}
    for _, process in pairs(gateway.server.backend:live_sessions()) do
      models[table.concat(process.argv, " "):match "%-%-model (%w+)"] = true
    end
    assert.same({ sonnet = true, haiku = true }, models)
  end))

  it("that a policy sends to another folder has no trust there", helper.task(function()
    local folder = helper.temporary_folder()
    local path = helper.write(folder .. "/routing.lua",
      ("return { route = function() return { options = { cwd = %q } } end }"):format(folder))
    local gateway <close> = gateways.start { backend = { policies = { routing = path } } }
    local answer = gateway:ask "hello"
    assert.equal(500, answer.status)
    assert.matches("trust", answer.json.error.message, 1, true)
  end))
end)

describe("a conversation whose server was closed", function()
  it("is woken by the next one, in its own transcript", helper.task(function()
    local first = gateways.start()
    first:ask("one", nil, { ["parley-conversation"] = "a" })
    local id = next(first.server.backend:live_sessions())
    first.server:close()
    local second = gateways.start { backend = first.kit.options, plain_folder = first.kit.folder .. "/plain" }
    second:ask(said("one", "echo: one", "two"), nil, { ["parley-conversation"] = "a" })
    local found = next(second.server.backend:live_sessions())
    second:close()
    first.kit:close()
    assert.equal(id, found)
  end))
end)

describe("the plain model's folder", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    check_leaks()
    helper.remove_folders()
  end)

  it("is no matter where an option is wrong: nothing stays open", helper.task(function()
    helper.failure_of("ValueError", gateways.start, { backend = { effort = 5 } })
  end))

  it("must be empty", helper.task(function()
    local folder = helper.temporary_folder()
    helper.write(folder .. "/CLAUDE.md", "x")
    local err = helper.failure_of("ValueError", gateways.start, { plain_folder = folder })
    assert.matches("must be empty, and has 'CLAUDE.md'", err.message, 1, true)
  end))

  it("is trusted by Parley, and no other is", helper.task(function()
    local gateway <close> = gateways.start { kit = { trusted = false } }
    assert.equal(200, gateway:ask("hello").status)
    assert.matches('parley_dialogs_total', gateway:request("/metrics").body, 1, true)
  end))
end)
