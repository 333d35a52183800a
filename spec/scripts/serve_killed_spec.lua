-- parley serve, killed with SIGKILL amid clients of every kind and started again over the same state: nothing of it is
-- left, the clients ask again until they are answered, and no conversation has a message twice, or another's.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local history = require "parley.base.history"
local http_client = require "parley.testing.http_client"
local task = require "parley.base.task"
local testing = require "parley.testing"

local TOKEN = "spec-token-0123456789"
local CLIENTS, DEATHS, BETWEEN_MS = 5, helper.long(2, 12), 2500

local SCRIPT = { faults = { survive_hangup = true }, answers = {
  { on = "TOOLS", steps = { { text = "let me see", tool = { name = "probe", input = { n = 1 } } },
    { text = "all done" } } },
  { on = "LINES", blocks = { { type = "text", text = ("line\n"):rep(10) } }, line_ms = 30 },
} }
local TOOLS = { { name = "probe", input_schema = { type = "object" } } }
local RUBBISH = { "{", "[]", "\0\1", '{"model":"sonnet","messages":[{"role":"x"}]}' }

describe("parley serve, killed amid its clients,", function()
  local check_leaks, kit, state, port

  before_each(function()
    check_leaks = helper.leaks()
    kit, state = testing.kit { script = SCRIPT }, helper.temporary_folder()
    assert(files.make_folder(state .. "/tmp"))
  end)
  after_each(function()
    kit:close()
    helper.remove_folders()
    check_leaks()
  end)

  local function serve()
    local program = helper.start({ helper.host, "serve", "--port", tostring(port or 0), "--executable", kit.executable,
      "--max-sessions", "4", "--idle-timeout", "1", "--disconnect-grace", "1" }, { input = false,
      env = helper.environment(kit.environment, { HOME = kit.home, XDG_STATE_HOME = state, TMPDIR = state .. "/tmp",
        PARLEY_TOKEN = TOKEN }) })
    program.changed:wait_until(function() return program.errors:find "plain model,.-\n" or program.status end, 60000)
    port = assert(program.errors:match "listening on http://%S-:(%d+)\n", program.errors)
    return program
  end

  local function request(body, headers)
    local all = { ["x-api-key"] = TOKEN }
    for name, value in pairs(headers or {}) do all[name] = value end
    return http_client.request { url = ("http://127.0.0.1:%s/v1/messages"):format(port), headers = all, body = body }
  end

  --- Asks for the same until there is an answer, as the official clients do: a connection that breaks is no answer, nor
  --- is a server that has no room or is on its way out.
  local function insist(body)
    local text, tries, pause = assert(core.json.encode(body)), 0, task.condition()
    while true do
      local ok, answer = pcall(request, text, { ["x-stainless-retry-count"] = tostring(tries) })
      if task.current():cancellation() then error(answer, 0) end
      local is_late = ok and (answer.status == 429 or answer.status >= 500)
      if ok and not is_late then
        assert.equal(200, answer.status, answer.body)
        return core.json.decode(answer.body), tries
      end
      tries = tries + 1
      pause:wait(100)
    end
  end

  local function body_of(messages) return { model = "sonnet", messages = messages, tools = TOOLS } end

  local function result_of(content)
    for _, block in ipairs(content) do
      if block.type == "tool_use" then
        return { type = "tool_result", tool_use_id = block.id, content = "fine" }
      end
    end
  end

  --- Holds conversations until it is told to end; `said` has the texts of each that was held to its end.
  local function talk(seen, name, chance)
    for number = 1, math.huge do
      local messages, said = {}, {}
      for turn = 1, chance(1, 4) do
        if seen.is_over then return end
        said[turn] = ("%s %s.%d.%d"):format(({ "talk", "LINES", "TOOLS" })[chance(1, 3)], name, number, turn)
        table.insert(messages, { role = "user", content = said[turn] })
        local answer, tries = insist(body_of(messages))
        table.insert(messages, { role = "assistant", content = answer.content })
        local result = result_of(answer.content)
        if result then
          table.insert(messages, { role = "user", content = { result } })
          answer, tries = insist(body_of(messages))
          table.insert(messages, { role = "assistant", content = answer.content })
        end
        seen.turns, seen.retried = seen.turns + 1, seen.retried + math.min(tries, 1)
      end
      table.insert(seen.whole, said)
    end
  end

  --- Goes away, sends rubbish, has no token.
  local function disturb(seen, chance)
    local pause = task.condition()
    for number = 1, math.huge do
      if seen.is_over then return end
      local what = chance(1, 3)
      if what == 1 then
        local going = task.spawn(function()
          pcall(request, assert(core.json.encode(body_of { { role = "user", content = "LINES gone." .. number } })))
        end)
        pause:wait(chance(1, 300))
        going:cancel "the client goes away"
      else
        pcall(request, RUBBISH[chance(1, #RUBBISH)], what == 2 and { ["x-api-key"] = "wrong-token-0123" } or nil)
      end
      pause:wait(chance(1, 100))
    end
  end

  local function chance_of(number)
    return function(least, most)
      number = (number * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
      return least + (number >> 33) % (most - least + 1)
    end
  end

  --- What was typed in each session, by its transcript.
  local function typed()
    local sessions, projects = {}, kit.home .. "/.claude/projects"
    for _, project in ipairs(files.names(projects)) do
      for _, name in ipairs(files.names(projects .. "/" .. project)) do
        local texts = {}
        for line in (files.read(("%s/%s/%s"):format(projects, project, name)) or ""):gmatch "([^\n]+)\n" do
          local record = core.json.decode(line)
          local message = type(record) == "table" and record.type == "user" and not record.isMeta and record.message
          local text = message and history.text_of(message)
          if text and text:find "^%u*%l* ?%w+%.%d+" then table.insert(texts, text) end
        end
        table.insert(sessions, texts)
      end
    end
    return sessions
  end

  --- No session has a text twice, or two conversations', and each that was held to its end stands whole in one.
  local function check(sessions, whole)
    local found = {}
    for _, texts in ipairs(sessions) do
      local conversation, is_there = nil, {}
      for _, text in ipairs(texts) do
        assert.is_nil(is_there[text], "twice in one conversation: " .. text)
        is_there[text] = true
        local own = text:match "(%w+%.%d+)%.%d+$" or text
        assert.equal(conversation or own, own)
        conversation = own
      end
      found[table.concat(texts, "\n")] = true
    end
    for _, said in ipairs(whole) do
      assert.is_true(found[table.concat(said, "\n")], "lost: " .. table.concat(said, ", "))
    end
  end

  it("leaves nothing behind, and its clients go on with the next", helper.task(function()
    local servers <close> = setmetatable({ serve() }, { __close = function(list)
      for _, one in ipairs(list) do one:__close() end
    end })
    local seen = { turns = 0, retried = 0, whole = {} }
    local clients = {}
    for number = 1, CLIENTS do
      clients[number] = task.spawn(talk, seen, "c" .. number, chance_of(number))
    end
    table.insert(clients, task.spawn(disturb, seen, chance_of(99)))
    local pause = task.condition()
    for _ = 1, DEATHS do
      local before = seen.turns
      pause:wait(BETWEEN_MS)
      helper.eventually(function() return seen.turns > before end, 60000, "a turn")
      local own = kit:processes()
      servers[#servers]:kill "sigkill"
      servers[#servers]:wait()
      table.insert(servers, serve())
      helper.eventually(function()
        local is_alive = {}
        for _, pid in ipairs(kit:processes()) do is_alive[pid] = true end
        for _, pid in ipairs(own) do
          if is_alive[pid] then return false end
        end
        return true
      end, 20000, "the end of the dead server's programs")
    end
    local before = seen.turns
    helper.eventually(function() return seen.turns >= before + CLIENTS end, 60000, "turns after the last death")
    seen.is_over = true
    for _, one in ipairs(clients) do one:await() end
    servers[#servers]:kill "sigterm"
    servers[#servers]:wait()
    helper.eventually(function() return #kit:processes() == 0 end, 20000, "the end of all programs")
    helper.eventually(function() return #files.names(state .. "/tmp") == 0 end, 20000, "the end of private folders")
    assert.is_true(seen.retried > 0, "nobody was cut off")
    check(typed(), seen.whole)
    if helper.long_seconds() then
      print(("%d deaths, %d turns, %d of them asked again, %d conversations whole"):format(DEATHS, seen.turns,
        seen.retried, #seen.whole))
    end
  end, 600000))
end)
