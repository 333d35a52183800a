--- The fake process: the same face as the real one, and a conversation without a pty.
local fake_process = require "parley.testing.fake_process"
local files = require "parley.base.files"
local helper = require "spec.helper"
local play = require "spec.lua.testing.play"
local process = require "parley.claude.process"
local task = require "parley.base.task"
local testing = require "parley.testing"

local folder, leaks
before_each(function()
  leaks = testing.leaks()
  folder = files.temporary_folder "parley-fake"
end)
after_each(function()
  files.remove_tree(folder)
  leaks:check()
end)

local function pasted(text) return "\27[200~" .. text .. "\27[201~" end

local function records(path) return helper.json_lines(files.read(path)) end

local function types(path)
  local list = {}
  for _, record in ipairs(records(path)) do
    if record.type == "user" or record.type == "assistant" or record.type == "system" then
      table.insert(list, record.type)
    end
  end
  return table.concat(list, " ")
end

describe("a fake process", function()
  it("has every method and field of a real one", testing.task(function()
    local kit <close> = testing.kit()
    local real, fake = process.new(kit.options), fake_process.new()
    for name, value in pairs(getmetatable(real)) do
      if type(value) == "function" then assert.equal("function", type(fake[name]), name) end
    end
    for _, name in ipairs { "argv", "session_id", "environment", "cwd", "screen", "changed" } do
      assert.equal(type(real[name]), type(fake[name]), name)
    end
  end))

  it("lives from start to exit", function()
    local fake = fake_process.new()
    assert.is_false(fake:is_alive())
    assert.is_nil(fake:pid())
    assert.same({ not_started = true }, fake:close())
    fake:start()
    assert.is_true(fake:is_alive())
    assert.equal("number", type(fake:pid()))
    assert.is_nil(fake:exit_record())
    fake:exit { signal = "SIGKILL" }
    assert.is_false(fake:is_alive())
    assert.same({ signal = "SIGKILL" }, fake:exit_record())
    assert.same({ signal = "SIGKILL" }, fake:close())
  end)

  it("has a pid of its own that no real process has", function()
    local one, two = fake_process.new(), fake_process.new()
    one:start()
    two:start()
    assert.not_equal(one:pid(), two:pid())
    assert.is_true(one:pid() > 4194304)
  end)

  it("cannot be started twice, nor written to when it does not run", function()
    local fake = fake_process.new()
    local ok, err = pcall(fake.write, fake, "x")
    assert.is_false(ok)
    assert.equal("exit", err.reason)
    fake:start()
    assert.is_false(pcall(fake.start, fake))
  end)

  it("records what is written, and tells", function()
    local told = {}
    local fake = fake_process.new { on_write = function(_, bytes) table.insert(told, bytes) end }
    fake:start()
    fake:write "a"
    fake:write "b"
    assert.same({ "a", "b" }, fake.writes)
    assert.same({ "a", "b" }, told)
    assert.equal("ab", fake:written())
  end)

  it("shows what it is fed, and notifies", testing.task(function()
    local fake = fake_process.new { rows = 5, columns = 20 }
    local waiting = task.spawn(function() return fake.changed:wait() end)
    task.spawn(function() fake:feed "hello" end)
    assert.is_true(waiting:await())
    assert.equal("hello", fake.screen:row(1))
    assert.equal("hello", fake:captured_output())
    fake:resize(3, 10)
    assert.same({ 3, 10 }, { fake.screen:size() })
  end))

  it("notifies at its exit", testing.task(function()
    local fake = fake_process.new()
    fake:start()
    local waiting = task.spawn(function() return fake.changed:wait() end)
    task.spawn(function() fake:exit() end)
    assert.is_true(waiting:await())
  end))

  it("ends as it is told to", function()
    local fake = fake_process.new { on_terminate = function(_, grace_ms) return { exit_code = grace_ms } end }
    fake:start()
    assert.same({ exit_code = 7 }, fake:close(7))
    assert.same({ "SIGTERM" }, fake.signals)
    local plain = fake_process.new()
    plain:start()
    assert.same({ exit_code = 143 }, plain:close())
  end)

  it("appends the records of the real program", function()
    local path = folder .. "/projects/x/session.jsonl"
    local fake = fake_process.new { jsonl_path = path, session_id = "the-id" }
    fake:append_user "question"
    fake:append_assistant({ { type = "thinking", thinking = "hm" }, { type = "text", text = "answer" } }, "max_tokens")
    fake:append_turn_duration(12)
    fake:append { type = "odd" }
    local list = records(path)
    assert.equal("user assistant assistant system", types(path))
    assert.equal("odd", list[#list].type)
    assert.equal("max_tokens", list[#list - 2].message.stop_reason)
    assert.equal(list[#list - 3].message.id, list[#list - 2].message.id)
    assert.equal(list[#list - 2].uuid, list[#list - 1].parentUuid)
    assert.equal("the-id", list[#list - 1].sessionId)
  end)

  it("keeps a status file, and removes it at its end", function()
    local fake = fake_process.new { status_folder = folder, session_id = "the-id" }
    fake:start()
    fake:set_status("waiting", "permission prompt")
    local path = ("%s/sessions/%d.json"):format(folder, fake:pid())
    local status = play.read_json(path)
    assert.equal("waiting", status.status)
    assert.equal("permission prompt", status.waitingFor)
    assert.equal("the-id", status.sessionId)
    assert.equal(fake:pid(), status.pid)
    fake:exit()
    assert.is_nil(io.open(path))
  end)
end)

describe("a fake process", function()
  it("refuses what means nothing", function()
    for _, make in ipairs { fake_process.new, fake_process.answering } do
      assert.matches("no option 'on_wrte'; did you mean 'on_write'?",
        helper.failure_of("ValueError", make, { on_wrte = print }).message, 1, true)
      assert.matches("option 'profile' must be one of", helper.failure_of("ValueError", make,
        { profile = "2.1.331" }).message)
    end
    assert.matches("needs the option 'jsonl_path'", helper.failure_of("ValueError", fake_process.answering).message)
    local fake = fake_process.new()
    for _, append in ipairs { fake.append, fake.append_user, fake.append_assistant, fake.append_turn_duration } do
      assert.matches("without jsonl_path", helper.failure_of("ValueError", append, fake, "x").message)
    end
  end)
end)

describe("a fake process that answers", function()
  local function answering(options)
    options.jsonl_path = folder .. "/session.jsonl"
    local fake = fake_process.answering(options)
    fake:start()
    return fake
  end

  it("shows a composer, takes a paste and Return, and writes the turn", function()
    local fake = answering { status_folder = folder }
    assert.truthy(fake.screen:text():find("❯\u{A0}", 1, true))
    fake:write(pasted "hello")
    assert.truthy(fake.screen:text():find("❯\u{A0}hello", 1, true))
    assert.equal("", types(fake.jsonl_path))
    fake:write "\r"
    assert.equal("user assistant system", types(fake.jsonl_path))
    local list = records(fake.jsonl_path)
    assert.equal("echo: hello", list[#list - 1].message.content[1].text)
    assert.equal("idle", play.read_json(("%s/sessions/%d.json"):format(folder, fake:pid())).status)
    fake:exit()
  end)

  it("takes plain keys too, and edits", function()
    local seen = {}
    local fake = answering { reply = function(text)
      table.insert(seen, text)
      return "ok"
    end }
    fake:write "wrong\21right"
    fake:write "\r"
    assert.same({ "right" }, seen)
  end)

  it("has the end of a turn as its profile has it", function()
    local fake = answering { profile = "2.1.110" }
    fake:write(pasted "hello" .. "\r")
    assert.equal("user assistant", types(fake.jsonl_path))
  end)

  it("answers later when it is told to", testing.task(function()
    local fake = answering { delay_ms = 20, status_folder = folder }
    fake:write(pasted "hello" .. "\r")
    assert.equal("user", types(fake.jsonl_path))
    assert.equal("busy", play.read_json(("%s/sessions/%d.json"):format(folder, fake:pid())).status)
    testing.eventually(function() return types(fake.jsonl_path) == "user assistant system" end)
    fake:exit()
  end))

  it("answers nothing any more once it has ended", testing.task(function()
    local fake = answering { delay_ms = 1 }
    fake:write(pasted "hello" .. "\r")
    fake:close()
    task.condition():wait(20)
    assert.equal("user", types(fake.jsonl_path))
  end))

  it("may end in its reply", function()
    local fake = answering { reply = function(_, process_of)
      process_of:exit { signal = "SIGSEGV" }
      return "never"
    end }
    fake:write(pasted "hello" .. "\r")
    assert.equal("user", types(fake.jsonl_path))
    assert.same({ signal = "SIGSEGV" }, fake:exit_record())
  end)

  it("exits at an exit word", function()
    local fake = answering {}
    fake:write(pasted "/exit")
    fake:write(pasted "" .. "\21exit\r")
    assert.same({ exit_code = 0 }, fake:exit_record())
  end)
end)
