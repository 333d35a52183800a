local readiness = require "parley.policy.readiness"

local RULE = ("─"):rep(60)
local COMPOSER = { RULE, "❯\u{A0}", RULE, "  ? for shortcuts" }
local BUSY = { RULE, "❯\u{A0}", RULE, "  esc to interrupt" }
local DIALOG = { " Do you trust it?", " ❯ 1. Yes", "   2. No", "", " Enter to confirm · Esc to cancel" }
local PANEL = { RULE, "  general  commands", "", "  Esc to cancel" }

local function state(rows, status)
  return readiness.state { rows = rows, status = status, cursor = { row = 2, column = 3, visible = false } }
end

describe("policy.readiness", function()
  describe("with a status", function()
    it("believes it before the screen", function()
      assert.equal("busy", state(COMPOSER, { status = "busy" }))
      assert.equal("dialog", state(COMPOSER, { status = "waiting" }))
      assert.equal("ready", state(BUSY, { status = "idle" }))
    end)

    it("is ready too while a command works in the background", function()
      assert.equal("ready", state(COMPOSER, { status = "shell" }))
    end)

    it("needs a composer to be ready", function()
      assert.equal("starting", state({}, { status = "idle" }))
      assert.equal("starting", state(PANEL, { status = "idle" }))
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
