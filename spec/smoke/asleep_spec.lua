-- Conversations that outlive their process and their host, on the real program.
local facts = require "parley.sleep.facts"
local files = require "parley.base.files"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local parley = require "parley"
local smoke = require "spec.smoke.live"

local CONVERSATIONS, TURNS, PLACES = 24, 4, 3

--- What the users typed in a request, by the marks of the conversations.
local function typed_in(request)
  local texts = {}
  for _, message in ipairs(request.body.messages) do
    local blocks = type(message.content) == "string" and { { type = "text", text = message.content } }
      or message.content
    for _, block in ipairs(message.role == "user" and blocks or {}) do
      local mark = type(block.text) == "string" and block.text:match "^%s*(c%d+%.%d+)%s*$"
      if mark then table.insert(texts, mark) end
    end
  end
  return table.concat(texts, " ")
end

describe("conversations that sleep, with the real program", function()
  if not smoke.claude then return pending "needs PARLEY_CLAUDE: run make smoke" end

  it("outlive processes and hosts: the API sees each whole, in order and once", helper.task(function()
    local server <close> = messages_api.start {}
    local home <close> = offline_home.new { base_url = server.url }
    local journal, options = home.root .. "/journal", home.root .. "/options.json"
    files.write(options, parley.json.encode { executable = smoke.claude, cwd = home.cwd, extra_env = home.extra_env,
      max_sessions = PLACES, preserve_provider_env = true })

    local function host(seed, stop)
      return helper.start({ helper.host, "spec/smoke/asleep_host.lua", journal, options, tostring(CONVERSATIONS),
        tostring(TURNS), tostring(seed), tostring(PLACES), stop and tostring(stop) or nil },
        { env = helper.environment({ LANG = "C.UTF-8" }, home.extra_env) })
    end
    local function to_its_end(seed, stop)
      local one <close> = host(seed, stop)
      one:wait()
      assert.equal(0, one.status, one.errors)
    end
    local function lines() return select(2, (files.read(journal) or ""):gsub("\n", "\n")) end

    to_its_end(1, 30)
    assert.equal(30, lines())
    do
      local killed <close> = host(2)
      helper.eventually(function() return lines() >= 50 end, 240000, "the fiftieth turn")
      killed:kill "sigkill"
      killed:wait()
    end
    local before_death = lines()
    to_its_end(3, 20)
    to_its_end(4)

    local last, ids, missed = {}, {}, {}
    for place, told in ipairs(helper.json_lines(files.read(journal))) do
      assert.equal((last[told.number] and last[told.number].count or 0) + 1, told.count)
      if ids[told.number] and ids[told.number] ~= told.id then
        assert.is_true(place > before_death, "a conversation has moved without a death")
        table.insert(missed, told.missed[1] or "fork")
      end
      last[told.number], ids[told.number] = told, told.id
    end
    assert.is_true(#missed <= PLACES, table.concat(missed, " "))
    local seen = {}
    for _, request in ipairs(server:turns()) do
      local typed = typed_in(request)
      seen[typed] = (seen[typed] or 0) + 1
    end
    local twice = 0
    for number = 1, CONVERSATIONS do
      assert.equal(TURNS, last[number].count)
      local whole = {}
      for count = 1, TURNS do
        whole[count] = ("c%d.%d"):format(number, count)
        local text = table.concat(whole, " ")
        assert.is_truthy(seen[text], "the API has not seen " .. text)
        if seen[text] > 1 then twice = twice + 1 end
        seen[text] = nil
      end
    end
    assert.is_true(twice <= PLACES) -- those that were under way when their host was killed
    assert.is_nil(next(seen))
  end, 580000))

  local function calls(on, name, input)
    return { on = on, blocks = { { type = "tool_use", name = name, input = input } } }
  end

  it("are woken in the worktree that the model has entered", helper.task(function()
    local server <close> = messages_api.start { script = { calls("ENTER", "EnterWorktree", { name = "wt1" }),
      { on = "ENTER", step = 1, blocks = { { type = "text", text = "entered" } } },
      calls("WHERE", "Bash", { command = "pwd", description = "look" }) } }
    local home <close> = offline_home.new { base_url = server.url }
    for _, words in ipairs { { "init" }, { "commit", "--allow-empty", "-m", "x" } } do
      local command = { "/usr/bin/git", "-C", home.cwd, "-c", "user.name=a", "-c", "user.email=a@b",
        table.unpack(words) }
      assert.equal(0, helper.run(command).status)
    end
    local options = { executable = smoke.claude, cwd = home.cwd, extra_env = home.extra_env }
    local talk, id
    do
      local first <close> = parley.backend(options)
      talk = first:conversation()
      id = talk:ask("hello").result.session_id
      talk:ask "ENTER"
      talk:ask "on"
    end
    local second <close> = parley.backend(options)
    local answer, folder = second:conversation(talk.messages):ask "WHERE", nil
    for _, event in ipairs(answer.events) do
      assert.not_equal("sleep_missed", event.subtype)
      for _, block in ipairs(event.type == "user" and event:blocks "tool_result" or {}) do folder = block.content end
    end
    assert.same({ id, 4 }, { answer.result.session_id, answer.result.num_turns })
    assert.equal(home.cwd .. "/.claude/worktrees/wt1", folder)
  end, 240000))

  for _, what in ipairs { "removed", "emptied" } do
    it("are not woken without what was said first, where their transcript was " .. what, helper.task(function()
      local server <close> = messages_api.start {}
      local home <close> = offline_home.new { base_url = server.url }
      local options = { executable = smoke.claude, cwd = home.cwd, extra_env = home.extra_env }
      local talk, id
      do
        local first <close> = parley.backend(options)
        talk = first:conversation()
        id = talk:ask("c1.1").result.session_id
        local path = parley.resolve_jsonl_path(id, home.cwd, home.extra_env)
        if what == "removed" then files.remove(path) else assert(files.put(path, "", "w")) end
        talk:ask "c1.2"
        talk:ask "c1.3"
      end
      local second <close> = parley.backend(options)
      assert.not_equal(id, second:conversation(talk.messages):ask("c1.4").result.session_id)
      local turns = server:turns()
      assert.equal("c1.1 c1.2 c1.3 c1.4", typed_in(turns[#turns]))
    end, 240000))
  end

  local BEHIND = { on = "BEHIND", blocks = { { type = "tool_use", name = "Bash", input = { command = "sleep 300",
    run_in_background = true, description = "wait" } } } }

  smoke.converses("tell what runs in their background", { script = { BEHIND } }, function(live)
    local told = facts.of(helper.say(live, "BEHIND").events)
    assert.equal(1, #told.background)
    assert.is_true(told.tokens > 0)
  end)

  local WATCH = { on = "WATCH", blocks = { { type = "tool_use", name = "Monitor", input = { command = "sleep 300",
    description = "look", timeout_ms = 300000, persistent = false } } } }

  smoke.converses("tell that a monitor runs", { script = { WATCH } }, function(live)
    local has_one = smoke.version > "2.1.250" -- those before have it only where the account does
    assert.equal(has_one and 1 or 0, #facts.of(helper.say(live, "WATCH").events).background)
  end)

  local LOOP = { on = "LOOP", blocks = { { type = "tool_use", name = "ScheduleWakeup", input = { delaySeconds = 3600,
    noop = false, reason = "nothing to do yet", prompt = "LOOP on" } } } }

  smoke.converses("tell that a loop will wake up by itself, and that it will not any more", { script = { LOOP,
    { on = "STOP", blocks = { { type = "tool_use", name = "ScheduleWakeup", input = { stop = true } } } } } },
    function(live)
      local told = facts.of(helper.say(live, "LOOP").events)
      local schedules = smoke.version > "2.1.250" -- those before do only where the account has it so
      assert.same(schedules and { "wakeup" } or {}, told.background)
      if schedules then assert.same({}, facts.of(helper.say(live, "STOP").events, told).background) end
    end)
end)
