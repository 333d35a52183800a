local readiness = require "parley.policy.readiness"

local RULE = ("─"):rep(60)
local COMPOSER = { RULE, "❯\u{A0}", RULE, "  ? for shortcuts" }
local BUSY = { "✻ Pondering… (3s)", RULE, "❯\u{A0}", RULE, "  ? for shortcuts" }
local HINT_ALONE = { RULE, "❯\u{A0}", RULE, "  esc to interrupt" } -- a status line of the user's own may say anything
local DIALOG = { " Do you trust it?", " ❯ 1. Yes", "   2. No", "", " Enter to confirm · Esc to cancel" }
local PANEL = { RULE, "  general  commands", "", "  Esc to cancel" }

local function state(rows, status, has_started)
  local row = rows == BUSY and 3 or 2
  return readiness.state { rows = rows, status = status, has_started = has_started,
    cursor = { row = row, column = 3, visible = false } }
end

describe("policy.readiness", function()
  describe("with a status", function()
    it("believes it before the screen", function()
      assert.equal("busy", state(COMPOSER, { status = "busy" }))
      assert.equal("dialog", state(COMPOSER, { status = "waiting" }, true))
      assert.equal("ready", state(BUSY, { status = "idle" }))
    end)

    it("believes it not of what is offered at the start, which it tells of late, or not at all", function()
      assert.equal("dialog", state(DIALOG, { status = "idle" }))
      assert.equal("starting", state(DIALOG, { status = "idle" }, true))
      assert.equal("dialog", state(DIALOG, { status = "waiting" }))
      assert.equal("starting", state(COMPOSER, { status = "waiting" }))
    end)

    it("takes no choices of a conversation that is drawn again for such an offer", function()
      local rows = { "❯ Which?", "", "● Choose:", "", "  ❯ 1. Yes", "    2. No" }
      assert.equal("starting", state(rows, { status = "idle" }))
    end)

    it("is ready too while a command works in the background", function()
      assert.equal("ready", state(COMPOSER, { status = "shell" }))
    end)

    it("sees a host asked for that the status does not tell of", function()
      local said = { "● Bash(curl example.com)", "", "✽ Running… (3s)", "" }
      local asks = { RULE, " Network request outside of sandbox", "", "   Host: example.com", "",
        "   Do you want to allow this connection?", "   ❯ 1. Yes", "     2. Yes, and don't ask again for example.com",
        "     3. No, and tell Claude what to do differently (esc)" }
      local rows = table.move(asks, 1, #asks, #said + 1, { table.unpack(said) })
      for _, status in ipairs { "busy", "idle", "shell" } do
        assert.equal("dialog", state(rows, { status = status, version = "2.1.197" }, true))
      end
      rows[#said + 2] = " Something else"
      assert.equal("busy", state(rows, { status = "busy", version = "2.1.197" }, true))
      -- The model may say the same: below that the composer is.
      local told = table.move(COMPOSER, 1, #COMPOSER, #asks + 1, { table.unpack(asks) })
      assert.equal("busy", state(told, { status = "busy", version = "2.1.197" }, true))
    end)

    it("needs a composer to be ready", function()
      assert.equal("starting", state({}, { status = "idle" }))
      assert.equal("starting", state(PANEL, { status = "idle" }))
    end)

    it("is not ready for a message while a search of the history has the keys, which is no matter to a turn", function()
      local rows = { RULE, "❯\u{A0}first", RULE, "  search prompts: fir" }
      for _, status in ipairs { { status = "idle" }, {} } do
        for is_before_message, expected in pairs { [true] = "starting", [false] = "ready" } do
          local view = { rows = rows, status = status, is_before_message = is_before_message,
            cursor = { row = 2, column = 8, visible = false } }
          assert.equal(expected, readiness.state(view))
        end
      end
    end)

    it("sees a dialog below which a version says that it is busy, and believes the others", function()
      local rows = { "● Write(a)", RULE, " Do you want to?", " ❯ 1. Yes", "   2. No", "", " Esc to cancel" }
      assert.equal("dialog", state(rows, { status = "busy", version = "2.1.141" }))
      assert.equal("busy", state(rows, { status = "busy", version = "2.1.149" }))
      assert.equal("busy", state(COMPOSER, { status = "busy", version = "2.1.141" }))
    end)

    it("sees a server's form, of which 2.1.197 says that it is busy", function()
      local rows = { "● Calling odd…", RULE, "  MCP server “odd” requests your input", "", "  Which?", "",
        "  ❯ * Your name: Type something…", "", "    Accept    Decline", "", "  Esc to cancel · ↑/↓ to navigate" }
      assert.equal("dialog", state(rows, { status = "busy", version = "2.1.197" }))
      table.move(BUSY, 1, #BUSY, #rows, rows)
      assert.equal("busy", state(rows, { status = "busy", version = "2.1.197" }))
    end)

    it("waits for one that names a version and tells no status yet", function()
      assert.equal("starting", state(COMPOSER, { version = "2.1.330" }))
      assert.equal("dialog", state(DIALOG, { version = "2.1.330" }))
    end)
  end)

  describe("without a status", function()
    it("is ready when the composer is there and nothing runs", function()
      assert.equal("ready", state(COMPOSER))
      assert.equal("ready", state(COMPOSER, { pid = 1 }))
      assert.equal("ready", state(HINT_ALONE))
      assert.equal("busy", state(BUSY))
    end)

    it("sees dialogs, and panels without choices", function()
      assert.equal("dialog", state(DIALOG))
      assert.equal("dialog", state(PANEL))
    end)

    it("is starting otherwise", function()
      assert.equal("starting", state {})
      assert.equal("starting", state { "Loading" })
    end)
  end)
end)
