--- Sub-agents that work in the background: what one reports starts a turn of the program's own, and a person can stop
--- them all (Ctrl+X Ctrl+K, twice), which the model is told of in one such turn.
local core = require "parley.core"
local task = require "parley.base.task"

local M = {}

local REPORT = "<task-notification>\n<task-id>%s</task-id>\n<status>completed</status>\n<result>%s</result>\n"
  .. "</task-notification>"

--- Starts one. Returns its call's result, as the record has it beside what the model gets.
---@param program parley.testing.Program
---@param tool table  of the script
---@return table
function M.start(program, tool)
  local id, agents = program.new_id "agent", program.agents
  local agent = { description = tool.input and tool.input.description or "" }
  table.insert(agents, agent)
  agent.task = program.calls:spawn(function()
    task.sleep(tool.works_ms)
    for index, each in ipairs(agents) do
      if each == agent then table.remove(agents, index) end
    end
    program:notify(REPORT:format(id, tool.result or ""))
  end)
  return { isAsync = true, status = "async_launched", agentId = id }
end

--- Stops them all.
---@param program parley.testing.Program
function M.kill(program)
  local names = {}
  for i, agent in ipairs(program.agents) do
    agent.task:cancel()
    names[i] = core.json.encode(agent.description)
  end
  if not names[1] then return end
  program.agents = {}
  program:notify((names[2] and ("%d background agents were stopped by the user: %s."):format(#names,
    table.concat(names, ", "))) or ("Background agent %s was stopped by the user."):format(names[1]))
  program.transcript:chain("system", { subtype = "agents_killed", isMeta = false })
end

return M
