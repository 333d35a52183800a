--- What the simulated model answers: what the script says, else what a word in the message picks, else an echo.
---
--- An answer is a list of steps, one API message each; a step with tool calls is followed by the next once their
--- results are there.
local files = require "parley.base.files"

local M = {}

local STOPS = { MAXTOK = "max_tokens", REFUSE = "refusal", STOPSEQ = "stop_sequence", PAUSE = "pause_turn" }

--- How the program words the errors of the API, by HTTP status.
local API_ERRORS = {
  [400] = { text = "API Error: 400 as asked", error = "unknown" },
  [401] = { text = "Please run /login · API Error: 401 as asked", error = "authentication_failed", retries = 10 },
  [413] = { text = "Request too large. Double press esc to go back and try with a smaller file.",
    error = "invalid_request" },
  [429] = { text = "API Error: Request rejected (429) · as asked", error = "rate_limit", retries = 10 },
  [500] = { text = "API Error: 500 as asked", error = "server_error", retries = 10 },
  [529] = { text = "API Error: 529 as asked", error = "server_error", retries = 10 },
}

local function bash(command, description, result)
  return { name = "Bash", input = { command = command, description = description }, result = result }
end

--- The words, in the order in which they are looked for. Each makes an answer of the message.
local words = {
  { "ERR(%d%d%d)", function(_, status) return { api_error = { status = tonumber(status) } } end },
  { "NOLOGIN", function()
    return { api_error = { error = "authentication_failed", text = "Not logged in · Please run /login" } }
  end },
  { "USAGELIMIT", function()
    return { api_error = { status = 429, error = "rate_limit", retries = 0,
      text = "You've hit your session limit · resets 10:42pm (UTC)" } }
  end },
  { "USETOOL", function()
    return { steps = { { text = "let me run", tool = bash("echo tool-out", "x", "tool-out") },
      { text = 'echo: TOOLRESULT:"tool-out"', is_about_calls = true } } }
  end },
  { "TWOTOOLS", function()
    return { steps = { { tools = { bash("echo A", "a", "A"), bash("echo B", "b", "B") } },
      { text = 'echo: TOOLRESULT:"A" TOOLRESULT:"B"' } } }
  end },
  { "SLOWTOOL", function()
    local tool = bash("sleep 1", "wait", "slept")
    tool.duration_ms = 1000
    return { steps = { { text = "let me wait", tool = tool }, { text = 'echo: TOOLRESULT:"slept"' } } }
  end },
  { "TOUCH", function()
    return { steps = { { text = "let me run", tool = bash("touch made.txt", "make a file", "") },
      { text = "echo: TOOLRESULT", is_about_calls = true } } }
  end },
  { "AGENT", function(_, _, _, profile)
    if profile.agents_run_behind then
      return { steps = { { tool = { name = "Agent", input = { description = "sub", prompt = "do it" },
        result = "launched" } }, { text = "started" } }, own_turn = { text = "<task-notification>done" } }
    end
    return { steps = { { tool = { name = "Agent", input = { description = "sub", prompt = "do it" },
      result = "done" } }, { text = 'echo: TOOLRESULT:"done"' } } }
  end },
  { "THINK", function()
    return { blocks = { { type = "thinking", thinking = "hmm", signature = "c2ln" },
      { type = "text", text = "first text" }, { type = "text", text = "second text" } } }
  end },
  { "EMPTY", function() return { empty = true } end },
  { "SLOW", function(text) return { text = "echo: " .. text, delay_ms = 1000 } end },
  { "DRIP", function(text)
    return { blocks = { { type = "text", text = "drop one" }, { type = "text", text = "echo: " .. text } },
      block_delay_ms = 200 }
  end },
  { "LONG", function() return { text = ("word "):rep(20000) } end },
  { "CUT", function(text) return { text = "echo: " .. text, retries = 1, retry_ms = 20 } end },
  { "COUNT", function(_, _, turn_number) return { text = ("turn %d"):format(turn_number) } end },
}

local function matches(on, text, turn_number)
  if on == nil then return true end
  if type(on) == "function" then return on(text, turn_number) and true or false end
  return text:find(on, 1, true) ~= nil
end

--- Takes one of the uses that an answer has. In a kit all processes share them: each use is a file that only one makes.
local function take_use(script, index, times)
  if not script.uses then
    local used = script.used[index] or 0
    script.used[index] = used + 1
    return used < times
  end
  for number = 1, times do
    if files.put(("%s/%d-%d"):format(script.uses, index, number), "", "wx") then return true end
  end
  return false
end

local function scripted(script, text, turn_number)
  for index, answer in ipairs(script.answers or {}) do
    if matches(answer.on, text, turn_number) and (not answer.times or take_use(script, index, answer.times)) then
      return answer
    end
  end
end

local function by_word(text, turn_number, profile)
  for _, entry in ipairs(words) do
    local pattern, make = entry[1], entry[2]
    local capture = text:match(pattern)
    if capture then return make(text, capture, turn_number, profile) end
  end
  for word, reason in pairs(STOPS) do
    if text:find(word, 1, true) then return { text = "echo: " .. text, stop_reason = reason } end
  end
end

local function blocks_of(step, program)
  local blocks = {}
  if step.thinking then table.insert(blocks, { type = "thinking", thinking = step.thinking, signature = "c2ln" }) end
  for _, block in ipairs(step.blocks or {}) do table.insert(blocks, block) end
  if step.text then table.insert(blocks, { type = "text", text = step.text }) end
  for _, tool in ipairs(step.tools or { step.tool }) do
    tool.call = { type = "tool_use", id = program.new_id "toolu", input = tool.input or {},
      name = program.servers and program.servers:full_name(tool.name) or tool.name }
    table.insert(blocks, tool.call)
  end
  return blocks
end

--- Whether a step says what the model answers.
local function has_content(step)
  return step.text or step.thinking or step.blocks or step.tool or step.tools or step.steps or step.empty
end

--- Chooses the answer to a message.
---@param script table
---@param text string
---@param turn_number integer
---@param program {new_id: (fun(prefix: string): string), profile: parley.testing.Profile,
---       servers?: parley.testing.Servers}
---@return table answer   with `steps`; each has `blocks`, `tools`, `stop_reason`
function M.choose(script, text, turn_number, program)
  script.used = script.used or {}
  local answer = scripted(script, text, turn_number) or by_word(text, turn_number, program.profile) or {}
  local chosen = {}
  for name, value in pairs(answer) do chosen[name] = value end
  if not has_content(chosen) then chosen.text = "echo: " .. text end
  local steps = {}
  for index, step in ipairs(chosen.steps or { chosen }) do
    local tools = step.tools or { step.tool }
    steps[index] = { blocks = step.empty and {} or blocks_of(step, program), tools = tools,
      delay_ms = step.delay_ms, block_delay_ms = step.block_delay_ms, line_ms = step.line_ms,
      breaks_off = step.breaks_off, dialog = step.dialog, elicitation = step.elicitation, compacts = step.compacts,
      compaction_fails = step.compaction_fails, cut_behind_calls = step.cut_behind_calls,
      is_about_calls = step.is_about_calls,
      stop_reason = step.stop_reason or (#tools > 0 and "tool_use" or "end_turn") }
  end
  if #steps[#steps].tools > 0 then
    table.insert(steps, { blocks = { { type = "text", text = answer.after } }, tools = {}, stop_reason = "end_turn",
      echoes = not answer.after and steps[#steps].tools or nil })
  end
  chosen.steps = steps
  return chosen
end

--- What the sub-agent says whom a command starts; nil: it is no such command.
---@param script table
---@param command string
---@param turn_number integer
---@return {text: string, after_ms?: number}?
function M.fork(script, command, turn_number)
  for _, answer in ipairs(script.answers or {}) do
    if answer.fork and matches(answer.on, command, turn_number) then return answer.fork end
  end
end

--- The text and the fields of an API error.
---@param given {status?: integer, text?: string, error?: string, retries?: integer}  no status: nothing was sent
---@return {text: string, error: string, status?: integer, retries: integer, is_usage_limit: boolean}
function M.api_error(given)
  local status = given.status or 400
  local known = API_ERRORS[status] or { text = ("API Error: %d as asked"):format(status),
    error = status >= 500 and "server_error" or "unknown", retries = status >= 500 and 10 or 0 }
  local text, kind = given.text or known.text, given.error or known.error
  return { status = given.status, text = text, error = kind, retries = given.retries or known.retries or 0,
    is_usage_limit = kind == "rate_limit" and text:find "^You've hit your" ~= nil }
end

return M
