-- Conversations that outlive their process, on the stand-in over a real pty.
local defer = require "parley.base.defer"
local files = require "parley.base.files"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local keeper = require "parley.sleep.keeper"
local opener = require "parley.sleep.opener"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"

local kit, no_leaks

--- A backend on the kit; `options` differ from the kit's.
local function backend_of(options)
  local all = {}
  for name, value in pairs(kit.options) do all[name] = value end
  for name, value in pairs(options or {}) do all[name] = value end
  return parley.backend(all)
end

--- The events of a subtype.
local function of_subtype(answer, subtype)
  local found = {}
  for _, event in ipairs(answer.events) do
    if event.subtype == subtype then table.insert(found, event) end
  end
  return found
end

--- How the stand-ins were started: the session of each, and whether it was resumed.
local function starts()
  local list = {}
  for i, entry in ipairs(kit:events "started") do
    for at, word in ipairs(entry.argv) do
      if word == "--resume" or word == "--session-id" then list[i] = word .. " " .. entry.argv[at + 1] end
    end
  end
  return list
end

local function stored(id)
  local store <close> = assert(index.open { path = keeper.path_for(kit.environment) })
  return store:get(id)
end

--- What was typed into each session, by its transcript.
local function said_in(id)
  local texts = {}
  for _, record in ipairs(kit:transcript(id)) do
    if record.type == "user" and type(record.message.content) == "string" then
      table.insert(texts, record.message.content)
    end
  end
  return texts
end

describe("a conversation that sleeps", function()
  before_each(function()
    no_leaks = helper.leaks()
    kit = testing.kit {}
  end)
  after_each(function()
    -- Those of a host that was killed end by themselves.
    helper.task(function() helper.eventually(function() return #kit:processes() == 0 end, 10000) end)()
    kit:close()
    no_leaks()
  end)

  --- A conversation whose model enters a worktree, and one that has gone on with it behind its process.
  local function entered(between)
    kit:close()
    kit = testing.kit { script = { answers = { { on = "ENTER", tool = { name = "EnterWorktree", enters = "wt1" } },
      { on = "LEAVE", tool = { name = "ExitWorktree", enters = "" } } } } }
    local first <close> = backend_of()
    local talk = first:conversation()
    local id = talk:ask("hello").result.session_id
    talk:ask "ENTER"
    local answer = talk:ask "in it"
    assert.equal(id, answer.result.session_id)
    local path = stored(id).path
    assert.not_equal(kit:transcript_path(id), path)
    if between then between(talk, path) end
    first:close()
    local second <close> = backend_of()
    local last = second:conversation(talk.messages):ask "and now"
    return id, last, path
  end

  it("is woken where the program has moved its transcript, as the model entered a worktree", helper.task(function()
    local id, last, path = entered()
    assert.same({}, of_subtype(last, "sleep_missed"))
    assert.equal(id, last.result.session_id)
    assert.equal(4, last.result.num_turns)
    assert.matches('"and now"', (files.read(path)))
    assert.equal("--resume " .. id, starts()[2])
  end))

  it("is woken where it was when the model has left the worktree again", helper.task(function()
    local id, last = entered(function(talk, path)
      talk:ask "LEAVE"
      assert.is_nil(files.size(path))
    end)
    assert.equal(id, last.result.session_id)
    assert.equal("and now", said_in(id)[5])
  end))

  it("whose transcript is gone by the end of its process is told of", helper.task(function()
    local id, last = entered(function(_, path) files.remove(path) end)
    assert.not_equal(id, last.result.session_id)
    local missed = of_subtype(last, "sleep_missed")
    assert.equal("gone", missed[1] and missed[1].cause)
    assert.equal(id, missed[1].missed)
  end))

  it("is woken in its own transcript, with the same flags, when its place was needed", helper.task(function()
    local backend <close> = backend_of { max_sessions = 1, extra_args = { "--verbose" } }
    local one, other = backend:conversation(), backend:conversation()
    local id = one:ask("USETOOL one").result.session_id
    other:ask "other"
    assert.equal("asleep", stored(id).state)
    local answer = one:ask "two"
    assert.equal(id, answer.result.session_id)
    assert.equal(2, answer.result.num_turns)
    assert.same({}, of_subtype(answer, "sleep_missed"))
    assert.equal("--resume " .. id, starts()[3])
    assert.equal("--verbose", kit:events "started"[3].argv[#kit:events "started"[3].argv])
    assert.same({ "USETOOL one", "two" }, said_in(id))
    assert.equal("live", stored(id).state)
  end))

  --- Which files a host has waited for the disk with before it gives a turn's `result`, behind all that it wrote there.
  local function synced_before_result(durability)
    local trace = kit.folder .. "/trace"
    local script = [[local parley = require "parley"
      local backend <close> = parley.backend { executable = %q, cwd = %q, durability = %q, extra_env = { %s } }
      for event in backend:complete { { role = "user", content = "one" } } do
        if event.type == "result" then io.stdout:write("RESULT\n") io.stdout:flush() end
      end]]
    local variables = {}
    for name, value in pairs(kit.environment) do table.insert(variables, ("[%q] = %q"):format(name, value)) end
    local host <close> = helper.start {
      "/usr/bin/strace", "-y", "-e", "trace=fsync,fdatasync,write,pwrite64", "-o", trace,
      helper.host, "-e", script:format(kit.executable, kit.cwd, durability, table.concat(variables, ", ")) }
    host:wait()
    local before, found = (files.read(trace) or ""):match '^(.-)write%(1<[^>]*>, "RESULT', {}
    assert.is_truthy(before, host.errors)
    for call, path in before:gmatch "(%w+)%(%d+<([^>\n]*)>" do
      local name = path:match "[^/]*$"
      found[name:find "%.jsonl$" and "transcript" or name] = call:find "sync" ~= nil
    end
    return found
  end

  if not files.size "/usr/bin/strace" then
    pending "survives the loss of power: needs strace"
  else
    it("is on the disk, with its transcript, before anybody has the result, where that was asked for",
      helper.task(function()
        local synced = synced_before_result "power"
        assert.is_true(synced.transcript)
        assert.is_true(synced["sessions.db-wal"])
        synced = synced_before_result "process"
        assert.is_nil(synced.transcript)
        assert.is_false(synced["sessions.db-wal"])
      end))
  end

  it("is nobody else's as soon as it is woken", helper.task(function()
    local id, messages
    do
      local backend <close> = backend_of()
      local talk = backend:conversation()
      id, messages = talk:ask("one").result.session_id, talk.messages
    end
    assert.equal("asleep", stored(id).state)
    local backend <close> = backend_of()
    for event in backend:conversation(messages):send "two" do
      if event.type == "user" then assert.equal("live", stored(id).state) end
    end
  end))

  it("is woken after the host's orderly end, and after an idle time-out", helper.task(function()
    local id, messages
    do
      local backend <close> = backend_of()
      local talk = backend:conversation()
      id = talk:ask("one").result.session_id
      messages = talk.messages
    end
    assert.equal("asleep", stored(id).state)
    local backend <close> = backend_of { idle_timeout_ms = 30 }
    local talk = backend:conversation(messages)
    assert.equal(id, talk:ask("two").result.session_id)
    helper.eventually(function() return stored(id).state == "asleep" end)
    assert.equal(id, talk:ask("three").result.session_id)
    assert.same({ "one", "two", "three" }, said_in(id))
  end))

  --- A host of its own that has one turn, says so, and waits. The messages stand in its output.
  local function start_host(then_what)
    local script = [[local parley = require "parley"
      local backend = parley.backend { executable = %q, cwd = %q, extra_env = { %s } }
      local talk = backend:conversation()
      print(talk:ask("one").result.session_id)
      io.stdout:flush()
      %s
      parley.task.condition():wait(60000)]]
    local variables = {}
    for name, value in pairs(kit.environment) do
      table.insert(variables, ("[%q] = %q"):format(name, value))
    end
    local host = helper.start { helper.host, "-e", script:format(kit.executable, kit.cwd,
      table.concat(variables, ", "), then_what or "") }
    host:expect "\n"
    return host, host.output:match "^(%S+)"
  end

  local function history_of_host()
    return { { role = "user", content = "one" }, { role = "assistant", content = "echo: one" } }
  end

  it("survives SIGKILL of its host", helper.task(function()
    local host <close>, id = start_host()
    assert.equal("live", stored(id).state)
    host:kill "sigkill"
    host:wait()
    local backend <close> = backend_of()
    local answer = backend:conversation(history_of_host()):ask "two"
    assert.same({}, of_subtype(answer, "sleep_missed"))
    assert.equal(id, answer.result.session_id)
    assert.equal(2, answer.result.num_turns)
    assert.same({ "one", "two" }, said_in(id))
  end))

  it("is not woken while another host has it: a fresh session gets the history, and an event says so",
    helper.task(function()
      local host <close>, id = start_host()
      local backend <close> = backend_of()
      local answer = backend:conversation(history_of_host()):ask "two"
      assert.not_equal(id, answer.result.session_id)
      local missed = of_subtype(answer, "sleep_missed")
      assert.equal("held", missed[1].cause)
      assert.equal(id, missed[1].missed)
      assert.truthy(missed[1].message:find(tostring(host.pid), 1, true), missed[1].message)
      assert.same({ "one" }, said_in(id))
      assert.same({ "one", "two" }, said_in(answer.result.session_id))
    end))

  it("is a miss when a turn was under way as its host was killed", helper.task(function()
    local host <close>, id = start_host [[for event in talk:send "SLOWTOOL two" do
      if event.type == "user" then print "typed" io.stdout:flush() end
    end]]
    host:expect "typed"
    host:kill "sigkill"
    host:wait()
    local backend <close> = backend_of()
    local answer = backend:conversation(history_of_host()):ask "SLOWTOOL two"
    assert.equal("grown", of_subtype(answer, "sleep_missed")[1].cause)
    assert.not_equal(id, answer.result.session_id)
    assert.same({ "one", "SLOWTOOL two" }, said_in(answer.result.session_id))
  end))

  --- A conversation that sleeps: its id and its messages.
  local function asleep()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("one").result.session_id
    return id, talk.messages
  end

  local function line(record) return parley.json.encode(record) .. "\n" end

  local SAID = { type = "user", uuid = "u", sessionId = "s", message = { role = "user", content = "and I" } }

  for cause, touch in pairs {
    gone = function(path) files.remove(path) end,
    shorter = function(path) files.put(path, files.read(path):sub(1, -100), "w") end,
    rewritten = function(path) files.put(path, (files.read(path):gsub("echo: one", "echo: two")), "w") end,
    grown = function(path) files.put(path, line(SAID), "a") end,
    torn = function(path) files.put(path, '{"type":"user","uu', "a") end,
  } do
    it(("is a miss, told of and forgotten, when its transcript is %s"):format(cause), helper.task(function()
      local id, messages = asleep()
      touch(kit:transcript_path(id))
      local backend <close> = backend_of()
      local talk = backend:conversation(messages)
      local answer = talk:ask "two"
      local missed = of_subtype(answer, "sleep_missed")
      assert.equal(1, #missed)
      assert.equal(cause, missed[1].cause)
      assert.equal(answer.result.session_id, missed[1].session_id)
      assert.not_equal(id, answer.result.session_id)
      assert.same({ "one", "two" }, said_in(answer.result.session_id))
      assert.is_nil(stored(id))
      assert.same({}, of_subtype(talk:ask "three", "sleep_missed"))
    end))
  end

  it("is a miss when its killed host's program writes before it ends, while that is waited for", helper.task(function()
    local id, messages = asleep()
    local settled = opener.settled
    local _ <close> = defer(function() opener.settled = settled end)
    function opener.settled(...)
      files.put(kit:transcript_path(id), line(SAID), "a")
      return settled(...)
    end
    local backend <close> = backend_of()
    local answer = backend:conversation(messages):ask "two"
    assert.equal("grown", of_subtype(answer, "sleep_missed")[1].cause)
    assert.same({ "one", "two" }, said_in(answer.result.session_id))
  end))

  it("is not woken from a transcript with a line that is none: what that said is missing there", helper.task(function()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("one").result.session_id
    files.put(kit:transcript_path(id), '{"type":"user","uu\n', "a")
    local second = talk:ask "two"
    assert.equal(1, #of_subtype(second, "malformed_line"))
    assert.equal(id, second.result.session_id)
    assert.is_nil(stored(id))
    assert.equal(id, talk:ask("three").result.session_id) -- the process knows it all
    backend:close()
    local other <close> = backend_of()
    local answer = other:conversation(talk.messages):ask "four"
    assert.not_equal(id, answer.result.session_id)
    assert.same({ "one", "two", "three", "four" }, said_in(answer.result.session_id))
  end))

  it("takes a line of somebody else's with blocks that are none", helper.task(function()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("one").result.session_id
    local odd, last = [[
{"type":"user","message":{"role":"user","content":[null,1,{"type":7}]}}
{"type":"assistant","message":{"role":"assistant","content":[null,{"type":"tool_use"}]}}
{"type":"assistant","message":null}
{"type":"attachment","attachment":null}
]], nil
    for event in talk:send "SLOWTOOL two" do
      if event.type == "user" and odd then
        files.put(kit:transcript_path(id), odd, "a")
        odd = nil
      end
      last = event
    end
    assert.equal("success", last.subtype)
    assert.equal(id, stored(id).session_id)
  end))

  --- What others do to a transcript between two turns, and whether the next host wakes from it.
  for what, given in pairs {
    removed = { touch = files.remove, told = "transcript_replaced" },
    emptied = { touch = function(path) files.put(path, "", "w") end, told = "transcript_truncated" },
    ["without a message"] = { told = "transcript_replaced", touch = function(path)
      files.write(path, (files.read(path):gsub('[^\n]*"type":"user"[^\n]*\n', ""))) end },
    ["put back as it was"] = { touch = function(path) files.write(path, files.read(path)) end,
      told = "transcript_replaced", is_whole = true },
  } do
    it("is woken only from a transcript that has all that was said: " .. what, helper.task(function()
      local backend <close> = backend_of()
      local talk = backend:conversation()
      local id = talk:ask("one").result.session_id
      given.touch(kit:transcript_path(id))
      local second = talk:ask "two"
      assert.equal(1, #of_subtype(second, given.told))
      assert.equal(id, talk:ask("three").result.session_id) -- the process knows it all
      backend:close()
      local other <close> = backend_of()
      local answer = other:conversation(talk.messages):ask "four"
      assert.equal(given.is_whole == true, id == answer.result.session_id)
      assert.same({ "one", "two", "three", "four" }, said_in(answer.result.session_id))
    end))
  end

  it("is not woken behind a turn that was cut off when the backend was closed", helper.task(function()
    local backend = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("one").result.session_id
    local messages, is_taken, goes_on = talk:fork().messages, false, task.condition()
    local running = task.spawn(pcall, function()
      for event in talk:send "SLOWTOOL cut off" do
        is_taken = event.type == "user"
        if is_taken then goes_on:wait() end -- its reader is busy with something else
      end
    end)
    helper.eventually(function() return is_taken end)
    backend:close()
    goes_on:notify()
    assert.is_false((running:await()))
    local other <close> = backend_of()
    local answer = other:conversation(messages):ask "two"
    assert.not_equal(id, answer.result.session_id)
    assert.same({ "one", "two" }, said_in(answer.result.session_id))
  end))

  it("is woken in its own session when /clear has left it", helper.task(function()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("one").result.session_id
    local messages = talk:fork().messages
    for _ in talk:command "/clear" do end -- luacheck: ignore 542
    assert.equal(id, backend:conversation(messages):ask("two").result.session_id)
  end))

  it("is not woken where its program has ended behind half a line", helper.task(function()
    local backend <close> = backend_of()
    local id = backend:conversation():ask("one").result.session_id
    assert.is_not_nil(stored(id))
    files.put(kit:transcript_path(id), '{"type":"user","uu', "a")
    backend:close()
    assert.is_nil(stored(id))
  end))

  it("is woken though its program has written notes at its end", helper.task(function()
    local id, messages = asleep()
    files.put(kit:transcript_path(id), line { type = "last-prompt", lastPrompt = "one", sessionId = id }, "a")
    local backend <close> = backend_of()
    assert.equal(id, backend:conversation(messages):ask("two").result.session_id)
  end))

  it("is woken once: of two that go on from there at a time the other has the same beginning", helper.task(function()
    local id, messages = asleep()
    local backend <close> = backend_of()
    local turns, answers = {}, {}
    for i, text in ipairs { "left", "right" } do
      turns[i] = task.spawn(function() answers[i] = backend:conversation(messages):ask(text) end)
    end
    for _, each in ipairs(turns) do each:await() end
    local first = answers[1].result.session_id == id and 1 or 2
    local texts = { "left", "right" }
    assert.equal(id, answers[first].result.session_id)
    assert.not_equal(id, answers[3 - first].result.session_id)
    assert.same({ "one", texts[first] }, said_in(id))
    local other = answers[3 - first]
    assert.same({ "one", texts[3 - first] }, said_in(other.result.session_id))
    assert.same(kit:transcript(id)[1], kit:transcript(other.result.session_id)[1]) -- no history that was written anew
    assert.same({}, of_subtype(other, "sleep_missed"))
  end))

  it("is not disturbed by a second continuation, which has all that stands in its beginning", helper.task(function()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("USETOOL one").result.session_id
    local before = talk:fork()
    talk:ask "two"
    local size = files.size(kit:transcript_path(id))
    local other = before:ask "instead"
    assert.not_equal(id, other.result.session_id)
    assert.equal(size, files.size(kit:transcript_path(id)))
    assert.same({ "USETOOL one", "instead" }, said_in(other.result.session_id))
    local kinds = {}
    for _, record in ipairs(kit:transcript(other.result.session_id)) do kinds[record.type] = true end
    assert.truthy(kinds["file-history-snapshot"] or kinds["permission-mode"] or kinds.system)
    local copied, own = kit:transcript(other.result.session_id), kit:transcript(id)
    assert.same(own[1], copied[1]) -- no history that was written anew
    assert.equal(id, talk:ask("three").result.session_id)
    assert.equal(other.result.session_id, before:ask("on").result.session_id)
    assert.same({ "USETOOL one", "two", "three" }, said_in(id))
  end))

  it("stays another's where what makes a session what it is differs", helper.task(function()
    local id, messages = asleep()
    local backend <close> = backend_of { system_prompt = "Be brief." }
    assert.not_equal(id, backend:conversation(messages):ask("two").result.session_id)
  end))

  it("is woken under another model", helper.task(function()
    local id, messages = asleep()
    local backend <close> = backend_of { model = "haiku" }
    assert.equal(id, backend:conversation(messages):ask("two").result.session_id)
    local argv = table.concat(kit:events "started"[2].argv, " ")
    assert.truthy(argv:find("--model haiku", 1, true), argv)
  end))

  it("is none where nothing is to be kept", helper.task(function()
    local id, messages
    do
      local backend <close> = backend_of { state = false }
      local talk = backend:conversation()
      id, messages = talk:ask("one").result.session_id, talk.messages
    end
    assert.is_nil(files.size(keeper.path_for(kit.environment)))
    local backend <close> = backend_of { state = false }
    assert.not_equal(id, backend:conversation(messages):ask("two").result.session_id)
  end))

  it("is forgotten with an index that is damaged, which is told of once", helper.task(function()
    local path = keeper.path_for(kit.environment)
    local id, messages = asleep()
    files.write(path, ("no database "):rep(1000))
    local backend <close> = backend_of()
    local talk = backend:conversation(messages)
    local answer = talk:ask "two"
    local moved = of_subtype(answer, "index_moved_aside")
    assert.equal(1, #moved)
    assert.equal(path, moved[1].path)
    assert.equal(("no database "):rep(1000), files.read(moved[1].aside))
    assert.matches("is damaged .*; it was moved to '.*', and a new one begun$", moved[1].message)
    assert.not_equal(id, answer.result.session_id)
    assert.same({}, of_subtype(talk:ask "three", "index_moved_aside"))
    assert.equal(answer.result.session_id, stored(answer.result.session_id).session_id)
  end))

  it("is given up, and the turn is none the worse, when its folder goes away meanwhile", helper.task(function()
    local folder = kit.folder .. "/gone"
    assert(files.make_folder(folder))
    local state = parley.json.decode(files.read(kit.home .. "/.claude/.claude.json"))
    state.projects[folder] = { hasTrustDialogAccepted = true }
    files.put(kit.home .. "/.claude/.claude.json", parley.json.encode(state), "w")
    local backend <close> = backend_of { cwd = folder }
    local talk = backend:conversation()
    for event in talk:send "one" do
      if event.type == "user" then files.remove_tree(folder) end
      if event.type == "result" then assert.equal("success", event.subtype) end
    end
    assert.equal(2, #talk.messages)
  end))

  it("says nothing of what the variables hold", helper.task(function()
    do
      local variables = { TOKEN = "very-secret" }
      for name, value in pairs(kit.environment) do variables[name] = value end
      local backend <close> = backend_of { extra_env = variables }
      backend:conversation():ask "one"
    end
    local folder = keeper.path_for(kit.environment):match "^(.*)/"
    local all = ""
    for _, name in ipairs(files.names(folder)) do all = all .. (files.read(folder .. "/" .. name) or "") end
    assert.truthy(all:find("TOKEN", 1, true))
    assert.is_nil(all:find("very-secret", 1, true))
  end))

  it("is nobody's to wake while a person has it, and then under what was said by hand", helper.task(function()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask("one").result.session_id
    assert.is_truthy(stored(id))
    local session = backend:sessions()[1].session
    local hold = backend:take_over(session)
    assert.is_nil(stored(id))
    hold:type "by hand"
    helper.eventually(function() return session.process.screen:text():find("by hand", 1, true) end, 20000)
    hold:type "\r"
    helper.eventually(function() return #said_in(id) == 2 and session:state() == "ready" end, 20000)
    backend:give_back(hold)
    backend:close()
    local entry = stored(id)
    assert.equal("asleep", entry.state)
    local other <close> = backend_of()
    local before = other:conversation(talk.messages)
    assert.not_equal(id, before:ask("two").result.session_id) -- what was said by hand is not in this history
    assert.same({ "one", "by hand" }, said_in(id))
  end))

  it("goes on as another when a person has typed /clear", helper.task(function()
    local backend <close> = backend_of()
    local talk = backend:conversation()
    local id = talk:ask(("one "):rep(200)).result.session_id -- more than there will be behind it
    local session = backend:sessions()[1].session
    local hold = backend:take_over(session)
    for place, text in ipairs { "/clear", "anew" } do
      hold:type(text)
      helper.eventually(function() return session.process.screen:text():find(text, 1, true) end, 20000)
      hold:type "\r"
      helper.eventually(function()
        return session:state() == "ready" and (place == 1 and session.terminal:status().sessionId ~= id
          or session.process.screen:text():find("echo: anew", 1, true) ~= nil)
      end, 20000)
    end
    backend:give_back(hold)
    local left = backend:sessions()
    assert.equal(1, #left)
    assert.not_equal(id, left[1].session.session_id)
    local said = said_in(left[1].session.session_id)
    assert.equal("anew", said[#said])
  end))
end)
