-- Clients of every kind at once: some talk, some call tools, some go away, ask again, send rubbish or read slowly.
-- Nothing is lost, doubled or crossed, and in the end nothing is left. With PARLEY_LONG=1 for two minutes, with
-- PARLEY_LONG=600 for ten; the long form prints what happened.
local core = require "parley.core"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local retries = require "parley.gateway.retries"
local task = require "parley.base.task"

local SEED = math.tointeger(tonumber(os.getenv "PARLEY_SEED")) or 20261129
local FOR_MS, CLIENTS = helper.long(5000, math.max(120, helper.long_seconds() or 0) * 1000), 10

local SCRIPT = { answers = {
  { on = "TOOLS", steps = { { text = "let me see", tools = { { name = "probe", input = { n = 1 } },
    { name = "probe", input = { n = 2 } } } }, { text = "all done" } } },
  { on = "LINES", blocks = { { type = "text", text = ("line\n"):rep(20) } }, line_ms = 20 },
  { on = "HANG", hang = true },
  { on = "BROKEN", api_error = { status = 400, text = "as asked" } },
} }
local TOOLS = { { name = "probe", input_schema = { type = "object" } } }

describe("random clients", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local count, finished

  --- A text that nobody else says.
  local function text_of(word)
    count = count + 1
    return ("%s %d"):format(word, count)
  end

  local function body_of(messages, fields)
    local body = { model = "sonnet", max_tokens = 1000, messages = messages }
    for name, value in pairs(fields or {}) do body[name] = value end
    return body
  end

  local function said(text) return { { role = "user", content = text } } end

  --- Asks until there is room, as clients do.
  local function ask(gateway, messages, fields)
    local answer, nothing = gateway:ask(messages, fields), task.condition()
    while answer.status == 429 do
      nothing:wait(100) -- what stands in retry-after is for patient ones
      answer = gateway:ask(messages, fields)
    end
    assert.equal(200, answer.status, answer.body)
    return fields and fields.stream and gateways.assemble(answer.body) or answer.json
  end

  local acts = {}

  function acts.talk(gateway, chance)
    local messages = {}
    for _ = 1, chance(1, 4) do
      local text, is_streamed = text_of "talk", chance(0, 1) == 1
      table.insert(messages, { role = "user", content = text })
      local message = ask(gateway, messages, { stream = is_streamed })
      assert.equal("echo: " .. text, gateways.text_of(message))
      finished[text] = true
      table.insert(messages, { role = "assistant", content = message.content })
    end
  end

  function acts.tools(gateway, chance)
    local text = text_of "TOOLS"
    local messages = said(text)
    local message = ask(gateway, messages, { tools = TOOLS, stream = chance(0, 1) == 1 })
    local results = {}
    for _, block in ipairs(message.content) do
      if block.type == "tool_use" then
        table.insert(results, { type = "tool_result", tool_use_id = block.id, content = "fine" })
      end
    end
    assert.equal(2, #results)
    table.insert(messages, { role = "assistant", content = message.content })
    table.insert(messages, { role = "user", content = results })
    assert.equal("all done", gateways.text_of(ask(gateway, messages, { tools = TOOLS })))
    finished[text] = true
  end

  local PICTURE = { type = "image", source = { type = "base64", media_type = "image/png",
    data = core.text.to_base64 "\137PNG\r\n\26\n and so on" } }

  function acts.picture(gateway)
    local message = ask(gateway, said { { type = "text", text = text_of "picture" }, PICTURE })
    assert.matches("^echo: picture %d+\n@/%S+%.png$", gateways.text_of(message))
  end

  --- Somebody looks in, at the list or at a session, and goes.
  function acts.look(gateway, chance)
    local sessions = gateway:request "/sessions".json
    local one = sessions[chance(1, 2)]
    local reader = gateway:open(one and ("/sessions/%s/stream"):format(one.id) or "/sessions", "",
      { accept = "text/event-stream" }, "GET")
    reader.news:wait_until(function()
      return reader.text:find "event: " or reader.text:find "HTTP/1.1 4" or reader.has_ended
    end, 60000)
    reader.news:wait(chance(1, 400))
    reader:close()
  end

  function acts.abort(gateway, chance)
    local text = text_of "LINES"
    local reader = gateway:open("/v1/messages", body_of(said(text), { stream = true }))
    reader.news:wait(chance(1, 400))
    reader:close()
  end

  function acts.retry(gateway, chance)
    local text = text_of "LINES"
    local body = body_of(said(text), { stream = true })
    local reader = gateway:open("/v1/messages", body)
    reader.news:wait_until(function()
      return reader.text:find "text_delta" or reader.has_ended or reader.text:find "HTTP/1.1 4"
    end, 60000)
    local was_refused = not reader.text:find "text_delta"
    reader:close()
    if was_refused then return end
    helper.tick()
    local answer = gateway:request("/v1/messages", body, { ["x-stainless-retry-count"] = tostring(chance(1, 2)) })
    assert.equal(200, answer.status, answer.body)
    assert.equal(("line\n"):rep(20), gateways.text_of((gateways.assemble(answer.body))))
    finished[text] = true
  end

  function acts.hang(gateway, chance)
    if chance(1, 5) > 1 then return end -- it keeps a session for the grace
    local reader = gateway:open("/v1/messages", body_of(said(text_of "HANG")))
    reader.news:wait(chance(1, 400))
    reader:close()
  end

  function acts.stranger(gateway)
    local answer = gateway:ask(text_of "never", nil, { ["x-api-key"] = "wrong-token-0123" })
    assert.equal(401, answer.status)
  end

  function acts.rubbish(gateway, chance)
    local rubbish = { "{", "[]", '{"model":1}', "\0\1\2", '{"model":"sonnet","messages":[{"role":"x"}]}' }
    assert.equal(400, gateway:request("/v1/messages", rubbish[chance(1, #rubbish)]).status)
  end

  function acts.half(gateway)
    local reader = gateway:open("/v1/messages", '{"model":', { ["content-length"] = "1000" })
    reader.news:wait(5)
    reader:close()
  end

  function acts.broken(gateway)
    local answer = gateway:ask(text_of "BROKEN")
    assert.is_true(answer.status == 400 or answer.status == 429, answer.body)
  end

  function acts.slow(gateway)
    local text = text_of "LINES"
    local reader <close> = gateway:open("/v1/messages", body_of(said(text), { stream = true }))
    reader.socket:read_stop()
    reader.news:wait(300)
    reader.socket:read_start(function(_, bytes)
      reader.text = reader.text .. (bytes or "")
      reader.has_ended = not bytes
      reader.news:notify()
    end)
    reader.news:wait_until(function()
      return reader.text:find "\r\n0\r\n\r\n" or reader.has_ended or reader.text:find "HTTP/1.1 429"
    end, 60000)
    if reader.text:find "HTTP/1.1 429" then return end
    assert.matches("message_stop", reader.text, 1, true)
    finished[text] = true
  end

  local NAMES = {}
  for name in pairs(acts) do table.insert(NAMES, name) end
  table.sort(NAMES)

  --- Numbers that are the same for the same seed.
  local function chance_of(seed)
    local state = seed
    return function(least, most)
      state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
      return least + (state >> 33) % (most - least + 1)
    end
  end

  local function number_of(set)
    local number = 0
    for _ in pairs(set) do number = number + 1 end
    return number
  end

  --- What the server says of itself.
  local function figures(gateway)
    local lines = { ("%d texts, %d of them to their end"):format(count, number_of(finished)) }
    for line in gateway:request "/metrics".body:gmatch "[^\n]+" do
      if line:find "^parley_%a+_total[{ ]" and not line:find "tokens" then table.insert(lines, line) end
    end
    return table.concat(lines, "\n")
  end

  --- What the server keeps in memory, without what it may forget.
  local function heap()
    collectgarbage()
    collectgarbage()
    return collectgarbage "count" / 1024
  end

  --- Nothing is kept of turns that are over, but the answers of those who may ask again.
  local function check_forgotten(server)
    assert.is_nil(next(server.desk.runs))
    assert.is_nil(next(server.desk.calls))
    assert.same({}, server.backend.attachments.folders)
    for _, kept in pairs(server.desk.retries.entries) do
      assert.is_true(kept.left_at and task.now() - kept.left_at < 2 * retries.KEPT_MS)
    end
  end

  it("lose nothing, double nothing and leave nothing (seed " .. SEED .. ")", helper.task(function()
    count, finished = 0, {}
    local gateway <close> = gateways.start { kit = { script = SCRIPT }, max_sessions = 4, queue = 6, grace_ms = 5000,
      tool_wait_ms = 60000, idle_timeout_ms = 2000, log = function() end }
    local began, running, half = task.now(), {}, nil
    for client = 1, CLIENTS do
      running[client] = task.spawn(function()
        local chance = chance_of(SEED + client * 1000)
        while task.now() < began + FOR_MS do
          if not half and task.now() > began + FOR_MS / 2 then half = heap() end
          acts[NAMES[chance(1, #NAMES)]](gateway, chance)
        end
      end)
    end
    for _, one in ipairs(running) do one:await() end
    helper.eventually(function() return gateway.server.desk.running == 0 end, 60000, "the end of all turns")
    gateway:ask "the last one" -- and what is old is forgotten
    finished["the last one"] = true
    local times, doubled, lost = {}, {}, {}
    for _, text in ipairs(gateway.kit:taken()) do times[text] = (times[text] or 0) + 1 end
    for text in pairs(finished) do
      if not times[text] then table.insert(lost, text) end
    end
    for text, number in pairs(times) do
      if number > 1 then table.insert(doubled, text) end
      assert.is_nil(text:find "never", text)
    end
    local last = heap()
    if helper.long_seconds() then
      print(("%s\n%d lost, %d doubled; the heap %.1f MB half-way, %.1f at the end"):format(figures(gateway), #lost,
        #doubled, half, last))
    end
    assert.same({ {}, {} }, { lost, doubled })
    assert.is_true(count > CLIENTS)
    assert.equal("table", type(core.json.decode(gateway:ask("still there?").body)))
    helper.eventually(function() return gateway.server.desk.running == 0 end, 60000, "the end of all turns")
    check_forgotten(gateway.server)
    if helper.long_seconds() then assert.is_true(last < 2 * half, ("%.1f MB, then %.1f"):format(half, last)) end
  end, FOR_MS + 300000))
end)
