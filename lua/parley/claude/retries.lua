--- How the program tells that it will try an API request again: on the screen, and on 2.1.110 in the transcript.
local tui = require "parley.claude.tui"

local M = {}

---@class parley.Retry
---@field attempt integer
---@field max_attempts integer
---@field wait_ms integer
---@field message string

local function below_spinner(rows, i)
  repeat i = i - 1 until i < 1 or rows[i] ~= ""
  return i >= 1 and rows[i]:find "^[·✢✳✶✻✽*]+ " ~= nil
end

--- Finds the row that announces that an API request will be tried again: it stands in the spinner's place, behind a
--- glyph at the left edge that no row of a message or an answer begins with, or hangs below such a row.
---@param rows string[]
---@return parley.Retry?
function M.on_screen(rows)
  for i = #rows, 1, -1 do
    local row = rows[i] ~= "" and rows[i]:find("etrying", 1, true) and (rows[i]:match "^[·✢✳✶✻✽*]+ (.*)$"
      or below_spinner(rows, i) and rows[i]:match "^%s+[⎿%s]*([Rr]etrying.*)$")
    local wait, attempt, of = (row or ""):match "[Rr]etrying(.-) · attempt (%d+)/(%d+)"
    if wait then
      local message = row:match "^(.-) · [Rr]etrying" or row
      return { attempt = tonumber(attempt), max_attempts = tonumber(of),
        wait_ms = (tonumber(wait:match "(%d+)s") or 0) * 1000, message = message }
    end
  end
end

M.on_screen = tui.once(M.on_screen)

--- The retry that a record tells of: 2.1.110 has each in the transcript.
---@param record table
---@return parley.Retry?
function M.in_record(record)
  if record.subtype ~= "api_error" or math.type(record.retryAttempt) ~= "integer" then return nil end
  local failure = type(record.error) == "table" and record.error or {}
  local status = math.type(failure.status) == "integer" and (" (%d)"):format(failure.status) or ""
  return { attempt = record.retryAttempt, max_attempts = math.tointeger(record.maxRetries) or record.retryAttempt,
    wait_ms = math.floor(tonumber(record.retryInMs) or 0), message = "API error" .. status }
end

return M
