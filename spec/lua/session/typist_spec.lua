-- How a message gets into the composer: each step seen before the next, nothing into a dialog.
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local fake_process = require "parley.testing.fake_process"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local parley = require "parley"
local session = require "parley.session"
local task = require "parley.base.task"
local testing = require "parley.testing"

local TRUST = " Accessing workspace:\r\n\r\n ❯ No, exit\r\n   Yes, I trust this folder\r\n\r\n Enter to confirm"

describe("typist", function()
  local folder, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  ---A session on a fake with a composer, started. `on_write` may take a write away by returning true.
  local function started(profile, on_write)
    local fake = fake_process.answering { jsonl_path = folder .. "/t.jsonl", status_folder = folder, profile = profile,
      environment = { CLAUDE_CONFIG_DIR = folder } }
    local plain = fake.options.on_write
    function fake.options.on_write(process, bytes)
      if not (on_write and on_write(process, bytes)) then plain(process, bytes) end
    end
    local live = session.new(fake, {}, { path = fake.jsonl_path })
    live:start()
    return live, fake
  end

  local function composer_of(live)
    local view = live:view()
    return require("parley.claude.tui").composer(view.rows, view.cursor)
  end

  for _, profile in ipairs { "2.1.110", "2.1.197", "2.1.330" } do
    describe("on " .. profile, function()
      for _, text in ipairs { "hello", "  a\nb", "!ls", ("long "):rep(400) .. "end", ("line\n"):rep(20) .. "end",
        "日本語 é 😀" } do
        it(("leaves %q in the composer"):format(text:sub(1, 12)), in_no_time(function()
          local live <close>, fake = started(profile)
          assert.is_true(live.typist:type(text, false))
          assert.equal("whole", live.policies.delivery.holds(composer_of(live), text))
          assert.is_true(live.typist:still_holds(text, {}))
          assert.is_nil(fake:written():find("\r", 1, true))
        end))
      end
    end)
  end

  it("clears what was left in the composer first", in_no_time(function()
    local live <close>, fake = started "2.1.330"
    fake:write "left over\27[200~\nand more\27[201~"
    assert.is_true(live.typist:type("new", false))
    assert.equal("new", composer_of(live).text:match "^%S+")
  end))

  it("clears what stands behind the cursor, too", in_no_time(function()
    local live <close>, fake = started "2.1.330"
    fake:write "\27[200~one\ntwo\nthree\27[201~\27[A\1"
    assert.is_true(live.typist:type("new", false))
    assert.equal("whole", live.policies.delivery.holds(composer_of(live), "new"))
  end))

  for _, left in ipairs { "!ls", "!" } do
    it(("leaves the shell mode first (%s)"):format(left), in_no_time(function()
      local live <close>, fake = started "2.1.330"
      fake:write(left)
      assert.is_true(composer_of(live).shell)
      assert.is_true(live.typist:type("new", false))
      assert.is_false(composer_of(live).shell)
    end))
  end

  for _, profile in ipairs { "2.1.110", "2.1.330" } do
    it("leaves the shell mode of " .. profile .. " though the first key for it was lost", in_no_time(function()
      local lost = 0
      local live <close>, fake = started(profile, function(_, bytes)
        lost = bytes == "\127" and lost + 1 or lost
        return bytes == "\127" and lost == 1
      end)
      fake:write "!"
      assert.is_true(live.typist:type("new", false))
      assert.is_false(composer_of(live).shell)
      assert.is_true(lost > 1)
    end))
  end

  it("types again what was lost", in_no_time(function()
    local lost = 0
    local live <close> = started("2.1.330", function(_, bytes)
      if bytes:find "hello" and lost == 0 then
        lost = 1
        return true
      end
    end)
    assert.is_true(live.typist:type("hello", false))
    assert.equal(1, lost)
  end))

  ---A session on a program that is so late that it takes pastes in only when a plain key comes behind them.
  local function late()
    local pastes, is_late = {}, true
    return started("2.1.330", function(fake, bytes)
      local is_paste = bytes:find "^\27%[200~" ~= nil
      if not is_late or is_paste then
        if is_late then table.insert(pastes, bytes) end
        return is_late
      end
      is_late = false
      for _, keys in ipairs(pastes) do fake.options.on_write(fake, keys) end
    end)
  end

  for _, text in ipairs { "hello", ("line\n"):rep(20) .. "line" } do
    it(("does not type again behind keys that are only late (%q)"):format(text:sub(1, 4)), in_no_time(function()
      local live <close> = late()
      assert.is_true(live.typist:type(text, false))
      assert.equal("whole", live.policies.delivery.holds(composer_of(live), text))
    end))
  end

  it("clears what an attempt has typed that was interrupted and comes late", in_no_time(function()
    local live <close>, fake = late()
    local is_interrupted = true
    function live.terminal.is_interrupted() return is_interrupted and #fake:written() > 0 end
    assert.is_false(live.typist:type("hello", false))
    is_interrupted = false
    assert.is_true(live.typist:type("hello", false))
    assert.equal("whole", live.policies.delivery.holds(composer_of(live), "hello"))
  end))

  it("types a long text again whose first piece was lost, and out of sight in the end", in_no_time(function()
    local text, is_lost = ("日本"):rep(2000) .. "end", false
    local live <close>, fake = started("2.1.330", function(process, bytes)
      local stop = not is_lost and bytes:find "^\27%[200~" and select(2, bytes:find("\27[201~", 1, true))
      if not stop then return end
      is_lost = true
      process.options.on_write(process, bytes:sub(stop + 1))
      return true
    end)
    assert.is_true(live.typist:type(text, false))
    live.typist:enter()
    assert.is_truthy(files.read(fake.jsonl_path):find(text, 1, true))
  end))

  describe("as time goes by", function()
    ---Lets the session's clock stand still but for its waits. `waited` is called in each of them.
    local function with_clock(live, waited)
      local time = 0
      clock.use { now = function() return time end }
      finally(function() clock.use() end)
      function live.terminal:wait(deadline) -- luacheck: ignore 212
        time = math.min(deadline, time + 500)
        waited()
      end
      return function() return time end
    end

    ---A program that gets no message; `show` writes to its composer all the same.
    local function deaf()
      local is_shown, missed = false, {}
      local live, fake = started("2.1.330", function(_, bytes)
        if is_shown or not bytes:find "word" then return false end
        table.insert(missed, bytes)
        return true
      end)
      local function show(bytes)
        is_shown = true
        fake:write(bytes)
        is_shown = false
      end
      return live, missed, show
    end

    it("a text that is shown bit by bit is waited for", in_no_time(function()
      local live, missed, show = deaf()
      local _ <close> = live
      local words, waits = { "word1 ", "word2 ", "word3 ", "word4 " }, 0
      with_clock(live, function()
        waits = waits + 1
        if waits % 3 == 0 then show("\27[200~" .. table.remove(words, 1) .. "\27[201~") end
      end)
      assert.is_true(live.typist:type("word1 word2 word3 word4", false))
      assert.equal(1, #missed)
      assert.same({}, words)
    end))

    it("a composer that never stands still is not waited for for ever", in_no_time(function()
      local live, missed, show = deaf()
      local _ <close> = live
      local waits = 0
      local now = with_clock(live, function()
        waits = waits + 1
        show(waits % 2 == 1 and "x" or "\127")
      end)
      local ok, err = pcall(live.typist.type, live.typist, "word", false)
      assert.is_false(ok)
      assert.equal("delivery", err.reason)
      assert.equal(4, #missed)
      assert.is_true(now() < 60000)
    end))

    it("an interrupt is not kept waiting", in_no_time(function()
      local live, missed = deaf()
      local _ <close> = live
      local now = with_clock(live, function()
        function live.terminal:is_interrupted() return #missed > 0 end -- luacheck: ignore 212
      end)
      assert.is_false(live.typist:type(("word "):rep(100), false))
      assert.is_true(now() < 1000)
    end))
  end)

  describe("on a terminal that takes nothing more", function()
    ---A session whose terminal is full from now on, in a turn.
    local function full(options)
      local live, fake = started "2.1.330"
      fake.is_full = true
      for name, value in pairs(options or {}) do live.options[name] = value end
      return live, fake
    end

    local function failure_of(live)
      local ok, err = pcall(function()
        for _ in live:send "hello" do end -- luacheck: ignore 542
      end)
      assert.is_false(ok)
      return err
    end

    for _, option in ipairs { "turn_timeout_ms", "stall_timeout_ms" } do
      it("gives up by " .. option, in_no_time(function()
        local live <close>, fake = full { [option] = 200 }
        local err = failure_of(live)
        assert.equal("timeout", err.reason)
        assert.matches(option, tostring(err))
        assert.equal("", fake:written())
      end))
    end

    it("gives up when the program ends", in_no_time(function()
      local live <close>, fake = full()
      task.spawn(function() fake:exit { signal = "SIGKILL" } end)
      local err = failure_of(live)
      assert.same({ "exit", "SIGKILL" }, { err.reason, err.exit.signal })
    end))

    it("lets go of an interrupted turn, and takes the next when it takes keys again", in_no_time(function()
      local live <close>, fake = full()
      task.spawn(function()
        helper.eventually(function() return live.course end)
        live:interrupt()
      end)
      local verdict
      for event in live:send "hello" do verdict = event.subtype end
      assert.equal("interrupted", verdict)
      assert.equal("", fake:written())
      fake.is_full = false
      local texts = {}
      for event in live:send "next" do table.insert(texts, event:text()) end
      assert.equal("next", texts[1])
    end))

    it("does not keep an interrupt waiting that wants to press ESC", in_no_time(function()
      local live <close>, fake = started "2.1.330"
      fake.options.delay_ms = 60000
      for event in live:send "hello" do
        if event.type == "user" then
          fake.is_full = true
          assert.is_true(live:interrupt())
          break
        end
      end
      assert.is_nil(fake:written():find "\27$")
    end))
  end)

  it("sends nothing when the composer never takes it", in_no_time(function()
    local live <close>, fake = started("2.1.330", function(_, bytes) return bytes:find "hello" ~= nil end)
    local ok, err = pcall(live.typist.type, live.typist, "hello", false)
    assert.is_false(ok)
    assert.is_true(errors.is(err, "SessionError"))
    assert.equal("delivery", err.reason)
    assert.matches("nothing was sent", tostring(err))
    assert.is_nil(fake:written():find("\r", 1, true))
  end))

  it("takes the lines of a narrower screen for none that Enter has made", helper.task(function()
    local world <close> = testing.world { script = { faults = { lose_returns = 1 } } }
    local live <close> = session.new(parley.process(world.options))
    live:start()
    world:after(500, function() live.process:resize(40, 60) end)
    assert.equal("success", helper.say(live, ("word "):rep(30)).verdict)
  end))

  it("takes a mark away that was typed, and none that the message ends with itself", helper.task(function()
    for seed = 1, 8 do
      local world <close> = testing.world { seed = seed, script = {}, faults = { slow = 3 } }
      local live <close> = session.new(parley.process(world.options))
      live:start()
      local text = ("some words here\n"):rep(700) .. "four about §"
      assert.equal("success", helper.say(live, text).verdict, seed)
      assert.same({ text }, world:taken())
    end
  end))

  it("does not count the time that a person takes for a dialog that comes up meanwhile", helper.task(function()
    local text = ("some words here\n"):rep(800) .. "end"
    for milliseconds = 700, 900, 20 do
      local world <close> = testing.world { seed = milliseconds, faults = { slow = 3 },
        script = { faults = { dialog_ms = milliseconds } } }
      local live <close> = session.new(parley.process(world.options), { policies = { dialogs = { decide = function()
        task.condition():wait(120000)
        return { choose = 1 }
      end } } })
      live:start()
      assert.equal("success", helper.say(live, text).verdict)
      assert.same({ text }, world:taken())
    end
  end))

  it("never types into a dialog that comes up in between", in_no_time(function()
    local live <close>, fake = started("2.1.330", function(fake, bytes)
      if bytes == "\7" then
        fake:set_status("waiting", "dialog open")
        fake:feed("\27[2J\27[H" .. TRUST)
        return true
      end
    end)
    local ok, err = pcall(live.typist.type, live.typist, "!secret", false)
    assert.is_false(ok)
    assert.equal("DialogError", err.code)
    assert.is_nil(fake:written():find("secret", 1, true))
    assert.is_nil(fake:written():find("\r", 1, true))
  end))

  it("does not take another text in the composer for the message", in_no_time(function()
    local live <close>, fake = started "2.1.330"
    fake:write "other"
    assert.is_false(live.typist:still_holds("hello", {}))
    assert.is_false(live.typist:is_empty())
  end))

  describe("with the program's editor,", function()
    local LONG = ("word "):rep(400) .. "end"

    it("hands over what cannot be typed, and clears what was left first", in_no_time(function()
      local live <close>, fake = started "2.1.330"
      fake:write "left over"
      assert.is_true(live.typist:type("\ta\n\n\nb", false))
      assert.equal("whole", live.policies.delivery.holds(composer_of(live), "\ta\n\n\nb"))
      assert.is_nil(fake:written():find("\27[200~", 1, true))
    end))

    it("presses its key again when that was lost, once it is seen that nothing follows", in_no_time(function()
      local presses = 0
      local live <close> = started("2.1.330", function(_, bytes)
        presses = presses + (bytes == "\7" and 1 or 0)
        return bytes == "\7" and presses == 1
      end)
      assert.is_true(live.typist:type(LONG, false))
      assert.equal(2, presses)
      assert.equal("whole", live.policies.delivery.holds(composer_of(live), LONG))
    end))

    it("presses its key once more when a dialog has got it", in_no_time(function()
      local presses = 0
      local live <close>, fake = started("2.1.330", function(process, bytes)
        if bytes ~= "\7" then return false end
        presses = presses + 1
        if presses == 3 then process:set_status("waiting", "dialog open") end
        return presses <= 3
      end)
      function live.terminal.guard.attend() fake:set_status "idle" end
      assert.is_true(live.typist:type(LONG, false))
      assert.equal(4, presses)
    end))

    it("does not press it again behind one that is only late, and takes away what it typed behind it",
      in_no_time(function()
        local presses, is_held = 0, nil
        local live <close>, fake = started("2.1.330", function(process, bytes)
          if bytes == "\7" then presses, is_held = presses + 1, true end
          if bytes == "\7" then return true end
          if is_held and bytes:find "¤" then -- the editor opens now, and what was typed meanwhile comes behind
            is_held = false
            process.editor:open(process.composer)
          end
        end)
        assert.is_true(live.typist:type(LONG, false))
        assert.equal(1, presses)
        assert.equal("whole", live.policies.delivery.holds(composer_of(live), LONG))
        assert.is_nil(composer_of(live).text:find("¤", 1, true))
        assert.is_true(#fake:written() > 0)
      end))

    for name, text in pairs { ["the text"] = LONG, ["a text with such marks"] = LONG .. " ¤ ¦ § end" } do
      it(("takes nothing from %s when the keys that take marks away are lost, and then read late"):format(name),
        in_no_time(function()
          local is_open, erasures, unread = false, 0, {}
          local live <close> = started("2.1.330", function(process, bytes)
            if bytes == "\7" then return true end
            if not is_open then
              is_open = bytes:find "^i\xC2" ~= nil
              if is_open then process.editor:open(process.composer) end -- and the mark comes behind
              return
            end
            if bytes:find "^\127+$" then erasures = erasures + 1 end
            if erasures == 1 and bytes:find "^\127" then return true end
            if erasures < 2 or unread.is_read then return end
            table.insert(unread, bytes)
            if not unread[2] then
              clock.after(5000, function()
                unread.is_read = true
                while unread[1] do process.options.on_write(process, table.remove(unread, 1)) end
              end)
            end
            return true
          end)
          assert.is_true(live.typist:type(text, false))
          assert.is_true(unread.is_read)
          assert.equal("whole", live.policies.delivery.holds(composer_of(live), text))
        end))
    end

    it("types what it can when none comes, says so once, and refuses the rest", in_no_time(function()
      local live <close>, fake = started("2.1.330", function(_, bytes) return bytes == "\7" end)
      live.turn = { notices = {}, notice = function(self, subtype) table.insert(self.notices, subtype) end }
      local ok, err = pcall(live.typist.type, live.typist, LONG, false)
      assert.is_false(ok)
      assert.equal("delivery", err.reason)
      assert.matches("keybindings.json", tostring(err), 1, true)
      assert.same({ "editor_unavailable" }, live.turn.notices)
      assert.is_true(live.typist:type("short", false))
      assert.same({ "editor_unavailable" }, live.turn.notices)
      assert.equal("whole", live.policies.delivery.holds(composer_of(live), "short"))
      assert.is_nil(fake:written():find("\r", 1, true))
      local refused, why = pcall(live.send, live, LONG)
      assert.is_false(refused)
      assert.equal("ValueError", why.code)
    end))
  end)
end)
