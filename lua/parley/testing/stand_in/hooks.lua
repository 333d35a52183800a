--- Hooks: shell commands from the settings, run for real, with a JSON object on standard input.
local uv = require "luv"
local core = require "parley.core"
local task = require "parley.base.task"

local M = {}

---@class parley.testing.Hooks
local Hooks = {}
Hooks.__index = Hooks

--- Hooks of a session.
---@param options {configuration: parley.testing.Configuration, profile: parley.testing.Profile, common: fun(): table}
---        `common` gives the fields that every hook gets
---@return parley.testing.Hooks
function M.new(options) return setmetatable(options, Hooks) end

--- Runs a shell command and waits for it. When the task is cancelled, the command is killed.
---@param command string
---@param input string
---@param cwd string
---@return {status: integer, output: string, errors: string, milliseconds: integer}
function M.shell(command, input, cwd)
  local stdin <close> = task.closing(uv.new_pipe(false))
  local stdout <close> = task.closing(uv.new_pipe(false))
  local stderr <close> = task.closing(uv.new_pipe(false))
  local started = task.now()
  local pieces, complaints, open_count, exit_status, process, pid = {}, {}, 2, nil, nil, nil
  local _ <close> = setmetatable({}, { __close = function()
    if process and not exit_status then process:kill "sigkill" end
  end })
  task.suspend(function(wake)
    local function finish_when_done()
      if exit_status and open_count == 0 then wake() end
    end
    process, pid = uv.spawn("/bin/sh", { args = { "-c", command }, cwd = cwd,
      stdio = { stdin.handle, stdout.handle, stderr.handle } }, function(status)
        exit_status = status
        process:close()
        finish_when_done()
      end)
    assert(process, pid)
    stdin.handle:write(input)
    stdin.handle:shutdown()
    for handle, read in pairs { [stdout.handle] = pieces, [stderr.handle] = complaints } do
      handle:read_start(function(_, bytes)
        if bytes then return table.insert(read, bytes) end
        open_count = open_count - 1
        finish_when_done()
      end)
    end
  end)
  return { status = exit_status, output = table.concat(pieces), errors = table.concat(complaints),
    milliseconds = math.floor(task.now() - started) }
end

--- Whether an event has hooks that this version runs.
---@param event string
---@return boolean
function Hooks:has(event)
  return self.profile.hook_events[event] ~= nil and #self.configuration:hooks(event) > 0
end

--- Runs an event's hooks, one after the other.
---@param event string
---@param fields? table   what the event adds to the input
---@return table[] results  with `command` and, where the output is JSON, `decoded`
function Hooks:run(event, fields)
  local results = {}
  if not self:has(event) then return results end
  local input = self.common()
  input.hook_event_name = event
  for name, value in pairs(fields or {}) do input[name] = value end
  for _, command in ipairs(self.configuration:hooks(event)) do
    local result = M.shell(command, core.json.encode(input) .. "\n", self.configuration.cwd)
    result.command = command
    result.decoded = result.output:match "^%s*{" and core.json.decode(result.output) or nil
    table.insert(results, result)
  end
  return results
end

--- What `UserPromptSubmit` hooks have against a message.
---@param results table[]
---@return {why?: string, hides_message: boolean}? refusal
---@return {why?: string}? stop  the message is kept, and not answered
function M.objections(results)
  for _, result in ipairs(results) do
    local said = result.decoded or {}
    local specific = said.hookSpecificOutput or {}
    if result.status == 2 then
      return { why = ("[%s]: %s"):format(result.command, result.errors), hides_message = false }
    elseif said.decision == "block" then
      return { why = said.reason or "Blocked by hook", hides_message = specific.suppressOriginalPrompt == true }
    elseif said.continue == false then
      return nil, { why = said.stopReason }
    end
  end
end

--- The decision of a permission hook.
---@param results table[]
---@return "allow"|"deny"|nil
function M.decision(results)
  for _, result in ipairs(results) do
    local specific = result.decoded and result.decoded.hookSpecificOutput or {}
    local decision = specific.permissionDecision or specific.decision and specific.decision.behavior
    if decision == "allow" or decision == "deny" then return decision end
    if result.status == 2 then return "deny" end
  end
end

return M
