-- What a session makes of a transcript that others handle while it runs.
local clock = require "parley.base.clock"
local fake_process = require "parley.testing.fake_process"
local files = require "parley.base.files"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local session = require "parley.session"
local uv = require "luv"

---Runs in a folder that is a small disk of its own. Says how a second turn ends that meets a full one.
local ON_A_FULL_DISK = [[
  local fake_process = require "parley.testing.fake_process"
  local parley = require "parley"
  local session = require "parley.session"
  local folder, when = ...

  local function fill()
    local file = assert(io.open(folder .. "/filler", "ab"))
    file:setvbuf "no"
    for _, piece in ipairs { ("."):rep(65536), "." } do
      repeat until not file:write(piece)
    end
    file:close()
  end

  local function reply(text, fake)
    if when == "partly" and text == "lost" then fake:append_assistant "a part" end
    if when ~= "before" and text == "lost" then fill() end
    return ("the answer "):rep(2000)
  end

  local fakes = {}
  local backend <close> = parley.backend { session_factory = function(_, id)
    local path = ("%s/projects/%s.jsonl"):format(folder, id)
    local fake = fake_process.answering { jsonl_path = path, status_folder = folder, session_id = id,
      environment = { CLAUDE_CONFIG_DIR = folder }, delay_ms = 50, reply = reply }
    table.insert(fakes, fake)
    return session.new(fake, {}, { path = path })
  end }
  local messages = { { role = "user", content = "hello" } }
  for _ in backend:complete(messages) do end
  table.insert(messages, { role = "assistant", content = reply "hello" })
  table.insert(messages, { role = "user", content = "lost" })
  if when == "before" then fill() end
  local written = fakes[1]:written()
  local ok, err = pcall(function() for event in backend:complete(messages) do print(event.type) end end)
  print(ok, ok or err.code, ok or err.reason, backend:live_session_count(), fakes[1]:written() == written, #fakes)
  print(err)
]]

describe("a session's transcript", function()
  local folder, path, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder() .. "/config"
    path = folder .. "/projects/-work/t.jsonl"
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  ---A session on a fake that answers, started. `handle` runs in the turn of the message "now", before its answer.
  local function answering(handle, options, start_offset)
    local fake = fake_process.answering { jsonl_path = path, status_folder = folder, delay_ms = 50,
      environment = { CLAUDE_CONFIG_DIR = folder }, reply = function(text)
        if text == "now" then handle() end
        return "echo: " .. text
      end }
    local live = session.new(fake, options, { path = path, offset = start_offset })
    live:start()
    return live, fake
  end

  ---What the events of a turn say.
  local function told(live, text)
    local said = {}
    for event in live:send(text) do
      local is_message = event.type == "user" or event.type == "assistant"
      table.insert(said, is_message and event:text() or event.subtype)
    end
    return said
  end

  it("that is replaced in a turn brings no record twice", in_no_time(function()
    local live <close> = answering(function() files.write(path, files.read(path)) end)
    assert.same({ "one", "echo: one", "success" }, told(live, "one"))
    assert.same({ "now", "transcript_replaced", "echo: now", "success" }, told(live, "now"))
    assert.same({ "two", "echo: two", "success" }, told(live, "two"))
  end))

  it("that is cut and written anew in a turn brings no record twice", in_no_time(function()
    local first
    local long = ("long "):rep(2000) .. "end"
    local live <close> = answering(function()
      local last = files.read(path):match "[^\n]*\n$"
      local file <close> = assert(io.open(path, "wb"))
      file:write(first, last)
    end)
    told(live, "one")
    first = files.read(path)
    assert.same({ long, "echo: " .. long, "success" }, told(live, long))
    local said = told(live, "now")
    assert.equal("success", table.remove(said))
    table.sort(said)
    assert.same({ "echo: now", "now", "transcript_truncated" }, said)
  end))

  it("that is replaced brings nothing of what the session was seeded with", in_no_time(function()
    local seeding = fake_process.answering { jsonl_path = path }
    seeding:append_user "old"
    seeding:append_assistant "an old answer"
    local live <close> = answering(function() files.write(path, files.read(path)) end, {}, #files.read(path))
    assert.same({ "now", "transcript_replaced", "echo: now", "success" }, told(live, "now"))
  end))

  it("goes on in a folder that was renamed in a turn, though the screen never rests", in_no_time(function()
    local live <close>, fake = answering(function() assert(os.rename(folder, folder .. ".old")) end,
      { turn_timeout_ms = 20000 })
    local tick = 0
    local ticks <close> = clock.every(50, function()
      tick = tick + 1
      fake:feed(("\0277\27[1;1H%d\27[K\0278"):format(tick))
    end)
    assert.equal("success", table.remove(told(live, "now")))
    assert.same({ "two", "echo: two", "success" }, told(live, "two"))
    assert(ticks)
  end))

  for when, expected in pairs {
    before = { "false\tSessionError\ttranscript\t0\ttrue\t1\n", "nothing was sent" },
    whole = { "user\nfalse\tSessionError\ttranscript\t0\tfalse\t1\n", "what the program did is not known" },
    partly = { "user\nassistant\nfalse\tSessionError\ttranscript\t0\tfalse\t1\n",
      "what the program did is not known" },
  } do
    it("on a full disk ends the session and says so: " .. when, helper.task(function()
      local own = uv.getuid() == 0 and "-m" or "-rm"
      if helper.run({ "/usr/bin/unshare", own, "true" }).status ~= 0 then return pending "no mounts of our own" end
      assert(uv.fs_mkdir(folder, 448))
      local script = helper.write(folder .. ".lua", ON_A_FULL_DISK)
      local ran = helper.run { "/usr/bin/unshare", own, "sh", "-c", [[
        mount -t tmpfs -o size=300k none "$3" && exec "$@"]], "sh", helper.host, script, folder, when }
      assert.equal("", ran.errors)
      assert.equal(expected[1], ran.output:sub(1, #expected[1]), ran.output)
      local why = expected[2] .. ": there is no space left on the disk of the file '" .. folder
      assert.matches(why, ran.output, 1, true)
    end))
  end
end)
