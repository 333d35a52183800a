--- The sub-agents that 2.1.110 and later let work in the background: what is heard of each belongs to the turn that has
--- started it.
local claude_event = require "parley.claude.event"

local M = {}

--- The sub-agent that a record tells the start of: a tool's result, or what a command leaves that is a skill with
--- `context: fork`.
---@param record table
---@return string? id
function M.started(record)
  local result = record.toolUseResult
  if type(result) == "table" and result.isAsync == true and type(result.agentId) == "string" then
    return result.agentId
  end
  local output = record.subtype == "local_command" and tostring(record.content) or ""
  return output:match '\n<forked%-skill%-launch>{"agentId":"([%w_-]+)"'
end

--- In the place of those that a person has stopped, until the model is told of that.
local STOPPED = {}

--- Follows them: they are heard of in a notification, which starts a turn of the program's own or comes as an
--- attachment to the one that runs. Where a person stops them all (Ctrl+X Ctrl+K) there is one for all, which names
--- none, behind a record that says so (2.1.110, 2.1.197, 2.1.332).
---@param working table<any, true>  those that were not heard of again, by id; changed
---@param record table
---@param text string  that may have a notification
---@return string[] names  what the turn's machine is to be told
function M.follow(working, record, text)
  local names, started = {}, M.started(record)
  local function leave(id)
    if working[id] then table.insert(names, "report") end
    working[id] = nil
  end
  if started and not working[started] then
    table.insert(names, "agent")
    working[started] = true
  end
  local is_told = record.promptSource == "system" or claude_event.is_notification(record)
    or record.type == "attachment" and text:find " stopped by the user[.:]"
  if is_told then leave(STOPPED) end
  for id in text:gmatch "<task%-id>([%w_-]+)</task%-id>" do leave(id) end
  if record.subtype == "agents_killed" and next(working) then
    table.insert(names, "agent")
    for id in pairs(working) do leave(id) end
    working[STOPPED] = true
  end
  return names
end

return M
