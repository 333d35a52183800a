--- One turn: a message that was taken, and all that the simulated model makes of it.
local clock = require "parley.base.clock"
local core = require "parley.core"
local task = require "parley.base.task"
local agents = require "parley.testing.stand_in.agents"
local answers = require "parley.testing.stand_in.answers"
local dialogs = require "parley.testing.stand_in.dialogs"
local display = require "parley.testing.stand_in.display"
local hooks = require "parley.testing.stand_in.hooks"
local tools = require "parley.testing.stand_in.tools"

local M = {}

local GERUNDS = { "Baking", "Pondering", "Whirring", "Channeling", "Simmering" }
local REFUSED = "API Error: the answer was stopped, as it appears to violate the usage policy."
local INTERRUPTED = "[Request interrupted by user]"
local INTERRUPTED_IN_TOOL = "[Request interrupted by user for tool use]"
local RETRY_MS, RECONNECT_MS = 1000, 500

---@class parley.testing.Turn
---@field program parley.testing.Program
---@field text string
---@field prompt_id string
---@field pending table[]       tool calls without a result, each with `call` and `uuid`
---@field refused? string       what the result of a call says that a rule or a hook has refused
---@field message? table        the API message that is being received, with its `finished` blocks
---@field shown? parley.testing.Display  its text, while it comes
---@field failure? table        what the StopFailure hook gets
---@field own_turn? table       a turn that the program starts afterwards by itself
---@field is_compacting? boolean  the conversation, before it answers
---@field status_after string
local Turn = {}
Turn.__index = Turn

--- A turn that has not begun.
---@param program parley.testing.Program
---@param given { text: string, number: integer, source?: "system"|"command" }  `source`: whose turn it is,
---       when not the user's
---@return parley.testing.Turn
function M.new(program, given)
  local text, number = given.text, given.number
  local prompt_id = core.uuid.generate()
  program.prompt_id = prompt_id
  return setmetatable({ program = program, text = text, number = number, source = given.source, prompt_id = prompt_id,
    pending = {}, gerund = GERUNDS[number % #GERUNDS + 1], started = task.now(), status_after = "idle",
    parent_before = program.transcript.parent }, Turn)
end

--- Runs hooks, and shows that they run.
---@param event string
---@param fields? table
---@return table[] results
function Turn:run_hooks(event, fields)
  local program = self.program
  if not program.hooks:has(event, fields) then return {} end
  program.view.hook = event
  program:redraw()
  local results = program.hooks:run(event, fields)
  program.view.hook = nil
  return results
end

--- Shows that the request is tried again, as often as it says.
function Turn:retry(description, times, milliseconds)
  local program = self.program
  for attempt = 1, times do
    if program.profile.records_retries then
      program.transcript:chain("system", { subtype = "api_error", level = "error", retryInMs = milliseconds,
        retryAttempt = attempt, maxRetries = times })
    else
      program.view.retry = program.profile.retry_text:gsub("{(%w+)}", { error = description, attempt = attempt,
        seconds = math.ceil(milliseconds / 1000), attempts = times })
    end
    program:redraw()
    task.sleep(milliseconds)
  end
  program.view.retry = nil
end

-- The answer ----------------------------------------------------------------------------------------------------------

function Turn:new_message(stop_reason)
  self.message = { id = self.program.new_id "msg", model = self.program.model, stop_reason = stop_reason,
    finished = {} }
  return self.message
end

--- Writes the blocks received: all together, once the message has ended or is cut off.
function Turn:write_message()
  local message, uuids = self.message, {}
  self.message = nil
  for index, block in ipairs(message.finished) do
    uuids[index] = self:write_block(message, block, message.is_last and index == #message.finished)
    if block.type == "tool_use" then table.insert(self.pending, { call = block, uuid = uuids[index] }) end
    self.message_id = message.id
  end
  if message.stop_reason then self.program.telemetry:answered(5) end -- else it was cut off
  return uuids
end

--- Writes one block, whole or with the fault that the script wants for the last line of an answer.
function Turn:write_block(message, block, is_last_line)
  local program, transcript, answer = self.program, self.program.transcript, self.answer
  local cuts = is_last_line and (answer.crash == "mid_line" or answer.half_line_ms)
  if cuts then
    transcript:flush()
    transcript.is_held = true
  end
  local uuid = transcript:assistant(message, block)
  if block.type == "text" then
    program.last_text = block.text
    program:show("● ", block.text)
  end
  if cuts and answer.crash == "mid_line" then
    transcript:flush_half()
    program:crash(answer.crash_status)
  elseif cuts then
    transcript:flush_slowly(answer.half_line_ms)
    transcript.is_held = answer.reorder or false
  end
  return uuid
end

--- Shows the text of a message as it comes, after that of an attempt which broke off.
function Turn:display(step)
  local program, text = self.program, ""
  for _, block in ipairs(step.blocks) do text = text .. (block.type == "text" and block.text or "") end
  if step.breaks_off then
    display.new(self):run(step.breaks_off, step.line_ms, true)
    if not program.profile.streams_again then return end -- it asks for the whole answer at once
    self:retry("Connection error", 1, RECONNECT_MS)
  end
  if text == "" then return end
  self.shown = display.new(self)
  self.shown:run(text, step.line_ms)
  self.shown = nil
end

--- Goes on with the answer to what was submitted meanwhile, instead of what was to be said.
function Turn:take_in_queued()
  local program = self.program
  local text = program:hand_over_queued()
  if text then self.steps = answers.choose(program.script, text, self.number, program).steps end
end

--- One API message. Returns false when the user's no to a tool ended the turn.
function Turn:run_step(step, is_last_step)
  self.is_compacting = step.compacts
  if step.delay_ms then task.sleep(step.delay_ms) end
  self.is_compacting = nil
  if step.dialog then self.program:ask(dialogs.custom(step.dialog)) end
  if step.compaction_fails then
    self:fail { error = "invalid_request", text = "Prompt is too long", retries = 0 }
    return true
  end
  if step.elicitation then self.program:ask(dialogs.elicitation(self.program.profile, step.elicitation)) end
  if step.compacts then self.program.transcript:compact "auto" end
  if step.echoes then step.blocks = { { type = "text", text = tools.echo(step.echoes) } } end
  if step.is_about_calls and self.refused then
    step.blocks = { { type = "text", text = "echo: TOOLRESULT " .. self.refused } }
  end
  local message = self:new_message(step.stop_reason)
  self:display(step)
  for index, block in ipairs(step.blocks) do
    if index > 1 and step.block_delay_ms then task.sleep(step.block_delay_ms) end
    table.insert(message.finished, block)
  end
  message.is_last = is_last_step
  self:write_message()
  if step.cut_behind_calls then self:tell_of_cut(step) end
  for _, tool in ipairs(step.tools) do
    if self.answer.crash == "during_tool" then self:crash_now() end
    if not tools.run(self, tool) then return false end
  end
  if step.tools[1] then self:take_in_queued() end
  self:after_stop(step)
  return true
end

--- The error of an answer whose connection ended behind its calls: a branch of its own, the results follow the calls.
function Turn:tell_of_cut(step)
  local transcript, profile = self.program.transcript, self.program.profile
  local parent = transcript.parent
  transcript:api_error(profile.connection_lost, { error = "server_error" },
    profile.cut_off_has_reason and step.stop_reason or nil)
  transcript.parent = parent
  self.program:show("● ", profile.connection_lost)
end

--- What the program does by itself about a stop reason.
function Turn:after_stop(step)
  local transcript, profile = self.program.transcript, self.program.profile
  local function go_on(text)
    table.insert(self:new_message("end_turn").finished, { type = "text", text = text })
    self:write_message()
  end
  if #step.blocks == 0 then
    if profile.records_empty_reply then transcript:meta "[Your previous response had no visible output.]" end
  elseif step.stop_reason == "max_tokens" then
    if profile.records_max_tokens then transcript:meta "Output token limit hit. Resume directly." end
    go_on "echo: Output token limit hit."
  elseif step.stop_reason == "refusal" and profile.refusal == "continue" then
    transcript:chain("system", { subtype = "informational", content = "the response above was stopped",
      level = "notice" })
    transcript:meta "Your response above was stopped by a safety classifier."
    go_on "echo: stopped by a safety classifier."
  elseif step.stop_reason == "refusal" then
    transcript:api_error(REFUSED, { error = "invalid_request" }, profile.refusal_stop_reason)
    self.failure = { error = "invalid_request", text = REFUSED }
  end
end

--- An API error, with the tries before it.
function Turn:fail(given)
  local program = self.program
  local failure = answers.api_error(given)
  local bound = tonumber(program.environment.CLAUDE_CODE_MAX_RETRIES) or math.huge
  self:retry((given.status or "error") .. " as asked", math.min(failure.retries, bound), given.retry_ms or RETRY_MS)
  program.transcript:api_error(failure.text, { error = failure.error, apiErrorStatus = given.status })
  program:show("● ", failure.text)
  self.has_api_error, self.failure = true, failure
  if failure.is_usage_limit and program.profile.asks_at_limit then program:ask(dialogs.usage_limit()) end
end

-- The end -------------------------------------------------------------------------------------------------------------

--- The Stop hooks and the record that they leave, or the StopFailure hooks, which leave none.
function Turn:run_stop_hooks()
  if self.failure then
    return self:run_hooks("StopFailure", { error = self.failure.error, last_assistant_message = self.failure.text })
  end
  local infos = {}
  local facts, behind = { stop_hook_active = false, last_assistant_message = self.program.last_text }, {}
  for _, kind in ipairs { "tasks", "crons" } do
    behind[kind] = core.json.array {}
    for number = 1, self.answer.behind and self.answer.behind[kind] or 0 do
      behind[kind][number] = { id = kind .. number, prompt = "x", status = "running" }
    end
  end
  if self.program.profile.stop_tells_behind then
    facts.background_tasks, facts.session_crons = behind.tasks, behind.crons
  end
  for index, result in ipairs(self:run_hooks("Stop", facts)) do
    infos[index] = { command = result.command, durationMs = result.milliseconds }
  end
  if #infos > 0 then
    self.program.transcript:chain("system", { subtype = "stop_hook_summary", hookCount = #infos, hookInfos = infos,
      level = "suggestion" })
  end
end

function Turn:finish()
  local program, profile, answer = self.program, self.program.profile, self.answer
  local milliseconds = math.floor(task.now() - self.started)
  self:run_stop_hooks()
  local has_duration = profile.turn_duration and (not self.has_api_error or profile.duration_after_api_error)
  if has_duration and not answer.omit_turn_duration then
    local working, workflows = agents.count(program)
    program.transcript:chain("system", { subtype = "turn_duration", durationMs = milliseconds, isMeta = false,
      messageCount = program.transcript.count, pendingBackgroundAgentCount = working,
      pendingWorkflowCount = workflows })
    program:show("✻ ", agents.awaited(program) or ("Baked for %ds%s"):format(milliseconds // 1000,
      profile.shows_done_time and clock.date " · done %H:%M" or ""))
  end
  program.transcript:note("last-prompt", { lastPrompt = self.text, leafUuid = program.transcript.parent })
  if answer.reorder then
    program.transcript.reorders = true
    program.transcript.is_held = false
    program.transcript:flush()
  end
  self.own_turn = answer.own_turn
  if answer.own_turn then self.status_after = answer.own_turn.status or "idle" end
  if self.has_api_error and profile.error_placeholder then program.view.placeholder = profile.error_placeholder end
end

--- Crashes, with everything that is known by now in the file.
function Turn:crash_now()
  self.program.transcript:flush()
  self.program:crash(self.answer.crash_status)
end

--- Does not take the message, as a hook has said.
function Turn:refuse(refusal)
  local program = self.program
  local said = "UserPromptSubmit operation blocked by hook:\n" .. refusal.why
  if not (refusal.hides_message and program.profile.hooks_hide_messages) then
    said = said .. "\n\nOriginal prompt: " .. self.text
  end
  program:show("● ", said)
  if program.transcript.count == 0 and program.profile.file_begins_with_message then return end
  program.transcript:chain("system", { subtype = "informational", content = said, level = "warning",
    preventContinuation = true })
  if program.profile.gives_back_refused then program.composer:give_back(self.text) end
end

--- Takes the message and gives no answer, as a hook has said.
function Turn:stop_at_message(why)
  local transcript, profile = self.program.transcript, self.program.profile
  local said = "Operation stopped by hook" .. (why and ": " .. why or "")
  transcript:user(self.text, { promptId = self.prompt_id })
  transcript:user(said, { promptId = self.prompt_id, isMeta = profile.hook_texts_are_meta or nil })
  if profile.turn_duration then
    transcript:chain("system", { subtype = "informational", content = said, level = "warning",
      preventContinuation = true })
  end
end

--- Runs the turn to its end.
function Turn:run()
  local program = self.program
  local transcript = program.transcript
  if program.profile.mcp_is_awaited then program.servers:wait() end
  local answer = answers.choose(program.script, self.text, self.number, program)
  self.answer = answer
  if not self.source or program.profile.hooks_have_prompt_id then
    local refusal, stop = hooks.objections(self:run_hooks("UserPromptSubmit", { prompt = self.text }))
    if refusal then return self:refuse(refusal) end
    if stop then return self:stop_at_message(stop.why) end
  end
  if answer.crash == "before_record" then program:crash(answer.crash_status) end
  transcript.is_held = answer.reorder or false
  if self.source == "command" then
    transcript:user(self.text, { promptId = self.prompt_id, isMeta = true })
  else
    local fields = self.source == "system" and transcript:own_fields() or { promptSource = self.source }
    fields.promptId = self.prompt_id
    transcript:message(self.text, fields)
  end
  if not program.faults.no_attachments then transcript:attach_pictures(self.text) end
  program.telemetry:prompted()
  if answer.crash == "after_user" then self:crash_now() end
  if answer.hang then
    self.is_hung = true
    task.condition():wait()
  end
  if answer.retries then self:retry("API error", answer.retries, answer.retry_ms or RETRY_MS) end
  if answer.api_error then
    self:fail(answer.api_error)
  else
    self.steps = answer.steps
    while self.steps[1] do
      if not self:run_step(table.remove(self.steps, 1), not self.steps[1]) then return self:reject() end
    end
  end
  if answer.crash == "after_answer" then self:crash_now() end
  self:finish()
end

-- Interruption --------------------------------------------------------------------------------------------------------

function Turn:write_interruption(text)
  local has_id = self.program.profile.interruption_names_message
  self.program.transcript:user({ { type = "text", text = text } },
    { promptId = self.prompt_id, interruptedMessageId = has_id and self.message_id or nil })
  self.program:show("  ⎿  ", "Interrupted · What should Claude do instead?")
end

--- The records of tool calls that the user did not want: every one that has no result.
function Turn:reject()
  for _, entry in ipairs(self.pending) do
    self.program.transcript:tool_result(entry.call, tools.REJECTED, true, entry.uuid)
  end
  self.pending = {}
  self:write_interruption(INTERRUPTED_IN_TOOL)
end

--- Whether anything of the answer would stay in the file.
function Turn:has_begun_to_answer()
  local has_text = self.shown ~= nil and self.shown.text ~= ""
  return #self.pending > 0 or self.message_id ~= nil or has_text
    or self.message ~= nil and #self.message.finished > 0
end

--- What an interruption leaves in the file, once the turn's task has ended.
function Turn:interrupt()
  local program = self.program
  program.view.hook, program.view.retry, program.transcript.is_held = nil, nil, false
  if self.message then
    self.message.stop_reason = nil
    local text = self.shown and self.shown.text or ""
    if text ~= "" then table.insert(self.message.finished, { type = "text", text = text }) end
    self:write_message()
  end
  if #self.pending > 0 then
    self:reject()
  else
    self:write_interruption(INTERRUPTED)
  end
end

return M
