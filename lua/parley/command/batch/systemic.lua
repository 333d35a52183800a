--- Which failures are nobody's in particular: every other conversation would meet them, too, so they end the run.
---
--- What is wrong with the account is wrong for all. What is wrong with the folder, the model or the permission mode
--- is, too, unless the conversation has named its own: then it is that one's. What the program itself says to try
--- again, such as an overloaded API, is not meant here.
local errors = require "parley.base.errors"

local M = {}

local function set(...)
  local members = {}
  for _, name in ipairs { ... } do members[name] = true end
  return members
end

--- API errors about the account, by the record's `error` (2.1.110 to 2.1.331; those that the program does not tell to
--- try again).
local ACCOUNT_ERRORS = set("authentication_failed", "oauth_org_not_allowed", "account_on_hold", "verification_required",
  "billing_error", "cloud_credential_error")

--- Dialogs of the start about the user's own set-up; the others there are about the folder.
local ACCOUNT_DIALOGS = set("api_key", "login", "onboarding", "configuration_error")

--- A 429 for which the program had tried again begins with "API Error"; without that it is a limit of the account.
local function is_usage_limit(err) return err.reason == "rate_limit" and not err.message:find "^API Error" end

--- A limit, or credits, for one model only.
local function is_about_model(err)
  local text = err.message
  local is_unknown = err.reason == "model_not_found" or text:find "^There's an issue with the selected model"
  return is_unknown or is_usage_limit(err)
    and (text:find "^You've hit your %u%l+ limit" or text:find "requires usage credits") ~= nil
end

--- What a failure is about.
---@param err any
---@return "executable"|"account"|"model"|"folder"|"mode"|nil about
local function subject_of(err)
  local cause = errors.is(err) and err.cause
  if errors.is(err, "CLINotFoundError") or errors.is(cause) and cause.step == "exec" then return "executable" end
  if errors.is(err, "error_api") then
    if is_about_model(err) then return "model" end
    return (ACCOUNT_ERRORS[err.reason] or is_usage_limit(err)) and "account" or nil
  end
  if errors.is(err, "DialogError") and err.at_start then
    if err.dialog.kind == "bypass" then return "mode" end
    return ACCOUNT_DIALOGS[err.dialog.kind] and "account" or "folder"
  end
  if errors.is(err, "SessionError") and err.reason == "costs" then return "account" end
  local has_refused = errors.is(err, "SessionError") and err.at_start and err.reason == "exit"
    and err.exit ~= nil and err.exit.signal == nil
  if has_refused or errors.is(err, "ValueError") and err.option == "cwd" then return "folder" end
end

--- Whether a failure ends the run.
---@param err any
---@param conversation parley.batch.Conversation
---@return boolean
function M.is(err, conversation)
  local about, own = subject_of(err), conversation.options
  if about == "model" then return own.model == nil end
  if about == "folder" then return own.cwd == nil end
  if about == "mode" then return own.permission_mode == nil end
  return about ~= nil
end

return M
