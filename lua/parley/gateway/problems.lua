--- What went wrong, as the two protocols tell it: a status, a body in JSON, and what the client should do.
local core = require "parley.core"
local errors = require "parley.base.errors"

local M = {}

--- The Messages API's name of each status.
local KINDS = {
  [400] = "invalid_request_error", [401] = "authentication_error", [403] = "permission_error",
  [404] = "not_found_error", [405] = "invalid_request_error", [408] = "timeout_error", [409] = "conflict_error",
  [413] = "request_too_large", [429] = "rate_limit_error", [500] = "api_error", [503] = "overloaded_error",
  [529] = "overloaded_error",
}

---@class parley.gateway.Problem: parley.Error  code `ApiError`
---@field status integer
---@field retry_after? integer    seconds
---@field is_final? boolean       the same again would fail in the same way: clients should not
---@field reason string           for the metrics

--- Makes a problem.
---@param status integer
---@param message string
---@param fields? table
---@return parley.gateway.Problem
function M.new(status, message, fields)
  if not utf8.len(message) then message = message:gsub("[\x80-\xFF]", "?") end -- of a path; it is told in JSON
  local made = errors.new("ApiError", message, fields)
  made.status, made.reason = status, made.reason or KINDS[status] or "api_error"
  return made
end

--- Raises a bad request.
---@param message string
---@param ... any  as `string.format` takes them
function M.refuse(message, ...) error(M.new(400, select("#", ...) > 0 and message:format(...) or message), 0) end

--- What a client waits for a time of its own choosing, unless it is told one.
local LIMITED_S, OVERLOADED_S = 30, 5

--- Of what the API said to Claude Code, the statuses that say the same to the client. A login that is none is the
--- server's affair: the client's own token was fine.
local SAME = { [400] = true, [404] = true, [413] = true, [429] = true, [500] = true, [529] = true }

local function of_result(result)
  local message = result.message or "the turn ended with " .. tostring(result.subtype)
  local status, fields = 500, { cause = result, reason = result.error or result.subtype }
  local said = result.api_error_status
  if result.error == "authentication_failed" or said == 401 or said == 403 then
    fields.is_final, fields.reason = true, "login"
    message = message .. " (this is the login of Claude Code on the server, not your token: parley doctor tells)"
  elseif said and SAME[said] then
    status = said
  elseif result.error == "rate_limit" then
    status = 429
  elseif result.error == "invalid_request" then
    status = 400
  end
  if status == 429 then fields.retry_after = LIMITED_S end
  if status == 529 then fields.retry_after = OVERLOADED_S end
  return M.new(status, message, fields)
end

--- What to do about a dialog: whoever runs the server can, and the client cannot.
local function of_dialog(err)
  return M.new(500, err.message, { is_final = true, cause = err, reason = "dialog" })
end

---@class parley.gateway.Places  where the blocks of the last message stand in the request: `messages.2.content.0`
---@field [integer] string
---@field whole string  the last message that has some of them: `messages.2`

--- What the backend says of the last message that it was given, as the client knows that.
local function in_request(message, places)
  if not places then return message end
  return (message:gsub("^messages%[%d+%]%.content%[(%d+)%]", function(i) return places[tonumber(i)] end)
    :gsub("^messages%[%d+%]", places.whole))
end

local by_code = {
  ApiError = function(err) return err end,
  ValueError = function(err, places) return M.new(400, in_request(err.message, places), { cause = err }) end,
  DialogError = of_dialog,
  CLINotFoundError = function(err)
    return M.new(500, err.message, { is_final = true, cause = err, reason = "executable" })
  end,
  ClosedError = function(err)
    return M.new(529, "the server is shutting down", { retry_after = OVERLOADED_S, cause = err, reason = "closed" })
  end,
  Cancelled = function(err)
    return M.new(529, "the server is shutting down", { retry_after = OVERLOADED_S, cause = err, reason = "cancelled" })
  end,
  EFBIG = function(err) return M.new(413, err.message, { cause = err }) end,
  ETIMEDOUT = function(err) return M.new(408, err.message, { cause = err }) end,
  EPROTO = function(err) return M.new(400, err.message, { cause = err }) end,
}

local OVERLOADED = { deadlock = true, timeout = true }

function by_code.SessionError(err)
  if err.result then return of_result(err.result) end
  if err.reason == "delivery" and not err.at_start then
    return M.new(500, err.message, { cause = err, reason = "delivery" })
  end
  local status = OVERLOADED[err.reason] and 529 or 500
  return M.new(status, err.message, { cause = err, reason = err.reason,
    retry_after = status == 529 and OVERLOADED_S or nil })
end

--- The problem that something raised is.
---@param err any
---@param places? parley.gateway.Places  of what the backend was given, where that has raised it
---@return parley.gateway.Problem
function M.of(err, places)
  local make = errors.is(err) and by_code[err.code]
  if make then return make(err, places) end
  return M.new(500, errors.is(err) and err.message or "the server has failed", { cause = err, reason = "internal" })
end

--- The problem that the end of a turn is, where it is one.
---@param result parley.Event
---@return parley.gateway.Problem
M.of_result = of_result

--- A body as the Messages API has it.
---@param problem parley.gateway.Problem
---@param id string  of the request
---@return table
function M.anthropic(problem, id)
  return { type = "error", error = { type = KINDS[problem.status] or "api_error", message = problem.message },
    request_id = id }
end

--- A body as Chat Completions has it.
---@param problem parley.gateway.Problem
---@return table
function M.openai(problem)
  return { error = { message = problem.message, type = KINDS[problem.status] or "api_error", param = core.json.null,
    code = problem.status == 401 and "invalid_api_key" or problem.reason or core.json.null } }
end

--- The headers that tell clients what to do.
---@param problem parley.gateway.Problem
---@return table<string, string>
function M.headers(problem)
  local headers = {}
  if problem.retry_after then headers["retry-after"] = tostring(problem.retry_after) end
  if problem.is_final then headers["x-should-retry"] = "false" end
  return headers
end

return M
