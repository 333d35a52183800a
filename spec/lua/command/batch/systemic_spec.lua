local errors = require "parley.base.errors"
local systemic = require "parley.command.batch.systemic"

local function api(reason, message)
  return errors.new("error_api", message or "API Error: as asked", { reason = reason })
end

local function dialog(kind, at_start)
  return errors.dialog_error("the program asks", { dialog = { kind = kind }, at_start = at_start })
end

local function exit(fields, at_start)
  return errors.session_error("the program exited", { reason = "exit", exit = fields, at_start = at_start })
end

local FOREIGN = errors.new("EACCES", "denied", { step = "exec" })
local LIMITS = { -- as 2.1.110 to 2.1.331 word them
  "You've hit your session limit · resets 10:37pm (UTC)", "You've hit your 5-hour limit · resets 10:35pm (UTC)",
  "You've hit your weekly limit · resets Mon", "You're out of usage credits. See Usage in Settings",
}

describe("a failure of a batch is systemic", function()
  local function is(err, own) return systemic.is(err, { options = own or {} }) end

  local function check(expected, list, own)
    for name, err in pairs(list) do assert.equal(expected, is(err, own), name) end
  end

  it("when it is about the executable or the account, whatever the conversation names", function()
    local list = {
      missing = errors.cli_not_found_error "no claude",
      denied = errors.session_error("not started", { reason = "start", cause = FOREIGN }),
      ["not logged in"] = api("authentication_failed", "Not logged in · Please run /login"),
      ["no access"] = api("oauth_org_not_allowed"), ["on hold"] = api "account_on_hold",
      ["no credit"] = api("billing_error", "Credit balance is too low"),
      bypass = dialog("bypass", true), api_key = dialog("api_key", true), onboarding = dialog("onboarding", true),
      login = dialog("login", true), configuration = dialog("configuration_error", true),
    }
    for i, text in ipairs(LIMITS) do list["limit " .. i] = api("rate_limit", text) end
    check(true, list)
    check(true, list, { cwd = "/own", model = "own" })
  end)

  it("when it is about the folder, unless the conversation names its own", function()
    local list = {
      trust = dialog("trust", true), mcp = dialog("mcp", true), new = dialog("unknown", true),
      ["refused to start"] = exit({ exit_code = 1 }, true),
      ["no folder"] = errors.value_error("the working directory '/x' cannot be used", { option = "cwd" }),
    }
    check(true, list)
    check(true, list, { model = "own" })
    check(false, list, { cwd = "/own" })
  end)

  it("when it is about the model, unless the conversation names its own", function()
    local list = {
      unknown = api "model_not_found",
      ["unknown on 2.1.110"] = api("invalid_request", "There's an issue with the selected model (x). It may not exist"),
      limit = api("rate_limit", "You've hit your Opus limit · resets Mon"),
      credits = api("rate_limit", "Fable 5 requires usage credits."),
    }
    check(true, list)
    check(true, list, { cwd = "/own" })
    check(false, list, { model = "own" })
  end)

  it("when it is about the permission mode, unless the conversation names its own", function()
    local list = { bypass = dialog("bypass", true) }
    check(true, list, { cwd = "/own", model = "own" })
    check(false, list, { permission_mode = "bypassPermissions" })
  end)

  it("in no other case", function()
    check(false, {
      script = "boo", expectation = errors.new("ExpectationError", "no"), input = errors.value_error "no",
      permission = dialog("permission"), question = dialog("question"), unknown = dialog("unknown"),
      crashed = exit({ exit_code = 1 }), ["killed at the start"] = exit({ signal = "SIGKILL" }, true),
      slow = errors.session_error("late", { reason = "timeout", at_start = true }),
      overloaded = api "server_error", wrong = api "invalid_request", odd = api "unknown", nameless = api(),
      ["too often"] = api("rate_limit", "API Error: Request rejected (429) · as asked"),
      busy = api("rate_limit", "API Error: Server is temporarily limiting requests (not your usage limit) · x"),
      ["no output"] = errors.new("error_no_output", "the turn ended with error_no_output"),
    })
  end)
end)
