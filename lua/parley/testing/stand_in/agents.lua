--- Sub-agents that work in the background, alone or in a workflow: what one reports starts a turn of the program's own,
--- and a person can stop all but workflows (Ctrl+X Ctrl+K, twice), which the model is told of in one such turn.
local core = require "parley.core"
local task = require "parley.base.task"

local M = {}

local REPORT = "<task-notification>\n<task-id>%s</task-id>\n<status>completed</status>\n<result>%s</result>\n"
  .. "</task-notification>"

--- By the tool that starts them: what the record has of the call's result, and what the model gets (2.1.332).
local LAUNCHES = {
  Agent = function(id)
    return { isAsync = true, status = "async_launched", agentId = id },
      "Async agent launched successfully.\nagentId: " .. id
  end,
  Skill = function(id, input)
    return { success = true, commandName = input.skill, status = "forked", background = true, agentId = id },
      ('Skill "%s" launched (forked execution, running in the background).'):format(tostring(input.skill))
  end,
  Workflow = function(id)
    return { status = "async_launched", taskType = "local_workflow", taskId = id },
      "Workflow launched in background. Task ID: " .. id
  end,
}

--- So often it is drawn how long they work: each second by the real one.
local TICK_MS = 10000

local function is_workflow(agent) return agent.tool == "Workflow" end

--- Starts one.
---@param program parley.testing.Program
---@param tool table  of the script
---@return table launched  its call's result, as the record has it beside what the model gets
---@return string text  that
function M.start(program, tool)
  local id, agents, input = program.new_id "agent", program.agents, tool.input or {}
  local began = task.now()
  local agent = { description = input.description or "", tool = tool.name, began = began }
  table.insert(agents, agent)
  agent.task = program.calls:spawn(function()
    repeat
      task.sleep(math.min(TICK_MS, began + tool.works_ms - task.now()))
      program:redraw()
    until task.now() >= began + tool.works_ms
    for index, each in ipairs(agents) do
      if each == agent then table.remove(agents, index) end
    end
    program:notify(REPORT:format(id, tool.result or ""))
  end)
  return (LAUNCHES[tool.name] or LAUNCHES.Agent)(id, input)
end

--- How many work, as the last record of a turn has it.
---@param program parley.testing.Program
---@return integer? agents  nil where none does
---@return integer? workflows
function M.count(program)
  local workflows = 0
  for _, agent in ipairs(program.agents) do workflows = workflows + (is_workflow(agent) and 1 or 0) end
  local agents = #program.agents - workflows
  return agents > 0 and agents or nil, workflows > 0 and workflows or nil
end

local function counted(count, name) return count and ("%d %s%s"):format(count, name, count > 1 and "s" or "") end

--- What stands above the composer while they work.
---@param program parley.testing.Program
---@return string?
function M.awaited(program)
  local working, workflows = M.count(program)
  local names = { counted(working, "background agent") }
  table.insert(names, counted(workflows, "dynamic workflow"))
  return names[1] and ("Waiting for %s to finish"):format(table.concat(names, " and ")) or nil
end

--- What stands below it: how many there are, in the place of a hint (2.1.110), or each with how long it has worked.
---@param program parley.testing.Program
---@return string? count
---@return string[] rows
function M.shown(program)
  if #program.agents > 0 and program.profile.counts_agents then return counted(#program.agents, "local agent"), {} end
  local rows = {}
  for i, agent in ipairs(program.agents) do
    rows[i] = ("  ◯ %s  %s  %ds"):format(agent.tool, agent.description, (task.now() - agent.began) // 1000)
  end
  return nil, rows
end

--- Stops all but workflows.
---@param program parley.testing.Program
function M.kill(program)
  local names, agents = {}, program.agents
  for index = #agents, 1, -1 do
    if not is_workflow(agents[index]) then
      local agent = table.remove(agents, index)
      agent.task:cancel()
      table.insert(names, 1, core.json.encode(agent.description))
    end
  end
  if not names[1] then return end
  program:notify((names[2] and ("%d background agents were stopped by the user: %s."):format(#names,
    table.concat(names, ", "))) or ("Background agent %s was stopped by the user."):format(names[1]))
  program.transcript:chain("system", { subtype = "agents_killed", isMeta = false })
end

return M
