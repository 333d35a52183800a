--- The sub-agents that 2.1.110 and later let work in the background, and the workflows of such (2.1.197 and later):
--- what is heard of each belongs to the turn that has started it, as the program's own durations have it.
local claude_event = require "parley.claude.event"

local M = {}

--- What a record tells the start of: the result of a tool, which may be a skill with `context: fork` (2.1.332 has the
--- model's go on in the background), or what a command leaves that is such a skill.
---@param record table
---@return string? id
---@return "agent"|"workflow"|nil kind
function M.started(record)
  local result = type(record.toolUseResult) == "table" and record.toolUseResult or {}
  local is_agent = result.isAsync == true or result.status == "forked" and result.background == true
  if is_agent and type(result.agentId) == "string" then return result.agentId, "agent" end
  if result.taskType == "local_workflow" and type(result.taskId) == "string" then return result.taskId, "workflow" end
  local output = record.subtype == "local_command" and tostring(record.content) or ""
  local id = output:match '\n<forked%-skill%-launch>{"agentId":"([%w_-]+)"'
  return id, id and "agent"
end

--- The workflow that the model has stopped (`TaskStop`): nothing more is heard of it, as there is of a sub-agent.
local function stopped_workflow(record)
  local result = type(record.toolUseResult) == "table" and record.toolUseResult or {}
  local is_stopped = result.task_type == "local_workflow" and tostring(result.message):find "^Successfully stopped"
  return is_stopped and result.task_id or nil
end

--- In the place of those that a person has stopped, until the model is told of that.
local STOPPED = {}

--- Whether a text of the program's tells that: no report of another one, which may have such words.
local function tells_of_stop(text)
  return text:find " stopped by the user[.:]" ~= nil and not text:find("<task-notification>", 1, true)
end

--- Follows them: they are heard of in a notification, which starts a turn of the program's own or comes as an
--- attachment to the one that runs. Where a person stops all sub-agents (Ctrl+X Ctrl+K) there is one for all, which
--- names none, behind a record that says so (2.1.110, 2.1.197, 2.1.332); workflows go on.
---@param working table<any, string>  those that were not heard of again, by id; changed
---@param record table
---@param text string  that may have a notification
---@return string[] names  what the turn's machine is to be told
function M.follow(working, record, text)
  local names, started, kind = {}, M.started(record)
  local function begin(id, what)
    if not working[id] then table.insert(names, "agent") end
    working[id] = what
  end
  local function leave(id)
    if working[id] then table.insert(names, "report") end
    working[id] = nil
  end
  if started then begin(started, kind) end
  leave(stopped_workflow(record) or false)
  local is_by_program = record.promptSource == "system" or claude_event.is_notification(record)
    or record.type == "attachment"
  if is_by_program and tells_of_stop(text) then leave(STOPPED) end
  for id in text:gmatch "<task%-id>([%w_-]+)</task%-id>" do leave(id) end
  if record.subtype == "agents_killed" then
    local killed = {}
    for id, what in pairs(working) do
      if what == "agent" then table.insert(killed, id) end
    end
    if killed[1] then begin(STOPPED, "stop") end
    for _, id in ipairs(killed) do leave(id) end
  end
  return names
end

return M
