--- A conversation with somebody at a terminal, or with what comes through a pipe.
local uv = require "luv"
local claude_commands = require "parley.claude.commands"
local cli = require "parley.command.cli"
local commands = require "parley.command.chat.commands"
local completer = require "parley.command.chat.completer"
local consent = require "parley.command.chat.consent"
local defer = require "parley.base.defer"
local earlier = require "parley.command.earlier"
local editor = require "parley.command.chat.editor"
local errors = require "parley.base.errors"
local lines = require "parley.command.chat.lines"
local output = require "parley.command.chat.output"
local paint = require "parley.command.paint"
local parley_backend = require "parley.backend"
local task = require "parley.base.task"
local usage = require "parley.base.usage"

local M = {}

local STATUS_MS = 200
local PROMPT, BOLD_PROMPT = "> ", "\1\27[1m\1>\1\27[0m\1 "

---@class parley.Chat
---@field backend parley.Backend
---@field input parley.Editor|parley.LineInput
---@field output parley.ChatOutput
---@field talk parley.Conversation
---@field saved integer       how many of them are in `saved_path`, or came from it
---@field saved_path? string
---@field turns integer       how many this chat has had
---@field version? string     of `claude`, from its transcript
---@field model? string       that gave the last answer
---@field trunks { talk: parley.Conversation, saved: integer, saved_path?: string }[]  those that were forked
---@field is_leaving boolean
---@field is_interrupting? boolean  the person wants the turn to end
---@field is_answering? boolean  text comes
---@field is_paused boolean   somebody is asked something in the middle of a turn
---@field last_cost? number   of the last turn, in US dollars, where it is told
---@field costs table<parley.Conversation, number>  of each, as far as it is told
---@field unknown_costs? string  why it is not
local Chat = {}
Chat.__index = Chat
Chat.__name = "parley.Chat"

--- Makes a conversation.
---@param given {backend: parley.Backend, input: parley.Editor|parley.LineInput, output: parley.ChatOutput,
---       is_interactive: boolean, messages?: table[]}  without a person, the first thing that goes wrong is raised;
---       `messages`: what was said before
---@return parley.Chat
function M.new(given)
  return setmetatable({
    backend = given.backend, input = given.input, output = given.output, is_interactive = given.is_interactive,
    talk = given.backend:conversation(given.messages), saved = #(given.messages or {}),
    turns = 0, trunks = {}, is_leaving = false, is_paused = false, costs = setmetatable({}, { __mode = "k" }),
  }, Chat)
end

-- Starting ahead ------------------------------------------------------------------------------------------------------

--- Starts `claude` for the conversation as it is, while the next message is still being typed.
function Chat:start_ahead()
  if self.starting then self.starting:cancel() end
  self.starting = task.spawn(function()
    local ok, err = pcall(self.backend.warm, self.backend, self.talk.messages, { options = self.talk.options })
    if ok or errors.is(err, "Cancelled") or errors.is(err, "ClosedError") then return end
    if not self.is_interactive then return end -- the message that waits for it fails with the same, and says so
    self.input:beside(function() self.output:error(err) end)
  end)
end

--- Waits for what `start_ahead` has begun; how it went shows when the message is sent.
local function await_start(self)
  if self.starting then self.starting:await() end
end

--- Replaces the conversation; what was set for it, such as the model, holds on.
---@param messages table[]
function Chat:set_messages(messages)
  self:set_talk(self.backend:conversation(messages, self.talk.options), #messages)
end

--- Goes on with another conversation.
---@param talk parley.Conversation
---@param saved integer        how many of its messages are in the file
---@param saved_path? string
function Chat:set_talk(talk, saved, saved_path)
  self.talk, self.saved, self.saved_path = talk, saved, saved_path
  self:start_ahead()
end

-- Turns ---------------------------------------------------------------------------------------------------------------

local function describe_state(self)
  local _, state = next(self.backend:session_states())
  local calls = self.calls
  if self.is_interrupting then return "interrupting" end
  if state == nil or state == "starting" then return "claude is starting" end
  if state == "dialog" then return "claude asks something" end
  if calls[1] then return "running " .. calls[#calls].name end
  return self.is_answering and "answering" or "waiting for the answer"
end

local function show_status(self)
  local began = task.now()
  while not task.current():cancellation() do -- a sleep that was over just then has not raised it
    if not self.is_paused then
      self.output:status(("%s, %d s (Ctrl-C interrupts)"):format(describe_state(self), (task.now() - began) // 1000))
    end
    task.sleep(STATUS_MS)
  end
end

--- Has the status line, and the part of an answer that is not shown yet, out of the way while something is asked.
---@param is_paused boolean
function Chat:pause(is_paused)
  self.is_paused = is_paused
  if is_paused then self.output:flush() end
end

--- The tool calls that have no result yet, and whether text comes, for the status line.
local function follow_calls(self, event)
  self.is_answering = event.type == "partial"
  for _, block in ipairs(event.content or {}) do
    if block.type == "tool_use" then table.insert(self.calls, block) end
    for i, call in ipairs(self.calls) do
      if block.type == "tool_result" and block.tool_use_id == call.id then
        table.remove(self.calls, i)
        break
      end
    end
  end
end

--- What is known of what the conversation costs.
local function follow_costs(self, event)
  if event.subtype == "costs_unavailable" then self.unknown_costs = event.message end
  if event.type ~= "result" then return end
  self.last_cost = event.cost_usd
  self.costs[self.talk] = usage.add_cost(self.costs[self.talk], event.cost_usd)
end

--- Shows an event, beside what is being typed where somebody is asked something.
local function show_event(self, event)
  if not self.is_paused then return self.output:event(event) end
  self.input:beside(function() self.output:event(event) end)
end

--- The first Ctrl-C interrupts the turn, or withdraws a message that is not sent yet; the second leaves.
local function watch_interrupts(self, answering)
  self.input:wait_for_interrupt()
  self.is_interrupting = true
  if not (self.turn and self.turn:interrupt()) then answering:cancel "withdrawn before it was sent" end
  self.input:wait_for_interrupt()
  self.is_leaving, self.status = true, 130
  answering:cancel "left during the turn"
end

local function cancelling(child)
  return defer(function() child:cancel() end)
end

--- Runs a turn and shows it.
---@param begin fun(): parley.Turn
---@return parley.Event[] events  to the `result`, or to where it was cut off
---@return any err  what ended the turn before its result
local function run_turn(self, begin)
  local events = {}
  self.turn, self.is_interrupting, self.calls, self.is_answering = nil, false, {}, false
  local answering = task.spawn(function()
    await_start(self)
    local turn <close> = begin()
    self.turn = turn
    for event in turn do
      table.insert(events, event)
      follow_calls(self, event)
      follow_costs(self, event)
      self.version = event.record and event.record.version or self.version
      if not event.is_error then self.model = event.model or self.model end
      show_event(self, event)
    end
  end)
  local _ <close> = cancelling(task.spawn(watch_interrupts, self, answering))
  local _ <close> = cancelling(task.spawn(show_status, self))
  local ok, err = pcall(answering.await, answering)
  self.output:finish()
  self.output:clear()
  local cancellation = task.current():cancellation()
  if cancellation then error(cancellation, 0) end
  return events, not ok and err or nil
end

--- The error that a turn ended with, if it did. That the person has interrupted it is none.
local function failure_of(self, result)
  if not (result and result.type == "result") then return nil end
  if result.subtype == "interrupted" and self.is_interrupting then
    self.output:note("(interrupted)", "red")
    return nil
  end
  local ok, err = pcall(self.turn.check, self.turn)
  return not ok and err or nil
end

--- It in the chat's words where the person has typed a command that the program does not know.
local function explained_command(err)
  local said = err and err.reason == "error_command" and err.result.message
  return said and said:find(claude_commands.UNKNOWN) and errors.value_error(said) or err
end

--- An error of the message itself, in the chat's words where it was refused as a command.
local function explained(err, text)
  local problem = errors.is(err, "ValueError") and err.index and commands.problem_of(text)
  return problem and errors.value_error(problem) or err
end

local function report(self, err)
  if err and not (self.is_interactive and errors.is(err)) then error(err, 0) end
  if errors.is(err, "Cancelled") then
    self.output:note("(" .. err.message .. ")", "red")
  elseif err then
    self.output:error(err)
  end
end

--- Sends a message and shows what follows. The conversation grows by what both sides know of it afterwards.
---@param text string
function Chat:send(text)
  local before = #self.talk.messages
  local events, err = run_turn(self, function() return (self.talk:send(text)) end)
  local result = events[#events]
  if result and result.type == "result" then self.turns = self.turns + 1 end
  report(self, explained(err, text) or failure_of(self, result))
  if not err and #self.talk.messages == before then self.talk:keep(self.turn) end -- it may have been interrupted
  if #self.talk.messages == before and self.is_interactive and not self.is_leaving then
    local how = self.input.has_history and "; Up brings it back" or ""
    self.output:note("the message is not part of the conversation" .. how, "dim")
  end
  if self.backend:live_session_count() == 0 and self.is_interrupting and not self.is_leaving then self:start_ahead() end
end

--- Runs one of the program's own commands and shows what follows.
---@param text string  `"/compact"`
function Chat:run_command(text)
  local events, err = run_turn(self, function() return (self.talk:command(text)) end)
  report(self, err or explained_command(failure_of(self, events[#events])))
  if self.backend:live_session_count() == 0 and not self.is_leaving then self:start_ahead() end
end

-- The conversation ----------------------------------------------------------------------------------------------------

--- Does what a line asks for.
local function take(self, text)
  if not text:find "%S" then return end
  self.input:remember(text)
  if text:find "^/[^/]" or text == "/" then return commands.run(self, text) end
  self:send((text:gsub("^//", "/")))
end

--- Talks until the input ends or somebody leaves.
---@return integer status  for the program's exit
function Chat:run()
  self:start_ahead()
  local interrupts, prompt = 0, PROMPT
  if self.output.options.paint("bold", ">") ~= ">" then prompt = BOLD_PROMPT end
  while not self.is_leaving do
    local text, why = self.input:read(prompt)
    if why == "end" and not text then break end
    interrupts = why == "interrupt" and interrupts + 1 or 0
    if interrupts == 2 then return 130 end
    if interrupts == 1 then
      self.output:note("Ctrl-C again leaves, as Ctrl-D does", "dim")
    else
      local ok, err = pcall(take, self, text)
      local cancellation = task.current():cancellation()
      if not ok and (cancellation or not self.is_interactive or not errors.is(err)) then error(err, 0) end
      if not ok then self.output:error(err) end
      if self.is_interactive then self.output:note "" end
    end
  end
  return self.status or 0
end

-- The command ---------------------------------------------------------------------------------------------------------

local function history_path()
  local state = os.getenv "XDG_STATE_HOME"
  local home = os.getenv "HOME"
  if not state or state == "" then state = home and home ~= "" and home .. "/.local/state" end
  return state and state .. "/parley/chat_history.jsonl"
end

--- Whether somebody sits there, and whether the terminal can do more than a typewriter.
local function surroundings()
  local is_interactive = cli.is_terminal(0) and cli.is_terminal(1)
  local terminal = os.getenv "TERM" or ""
  return is_interactive, is_interactive and terminal ~= "" and terminal ~= "dumb"
end

--- Takes SIGINT from here on: libuv gives it its default action when the input is closed, and `claude` is ended behind
--- that. The first changes nothing, for the chat is left already; the second ends the process, as in any command.
local function take_sigint(handle)
  local is_second = false
  handle:start("sigint", function()
    if is_second then
      handle:close()
      uv.kill(uv.os_getpid(), "sigint")
    end
    is_second = true
  end)
end

--- Runs the command.
---@param arguments table  see `cli.backend_options`; `no_history`, `plain`, `resume`
---@return integer status
function M.main(arguments)
  local is_interactive, is_able = surroundings()
  local options = cli.to_backend(arguments)
  local asker = is_interactive and options.permission_mode == "default" and consent.new() or nil
  if asker then
    options.policies = options.policies or {}
    options.policies.permission = options.policies.permission or not options.policies.dialogs and asker:policy() or nil
  end
  local before = arguments.resume and earlier.find(arguments.resume[1], options)
  options.partial = is_interactive or nil
  options.max_sessions = 1 -- a conversation that was left gives its place to the next
  local sigint <close> = task.closing(uv.new_signal()) -- closed behind the backend
  local backend <close> = parley_backend.new(options)
  local input <close> = is_able and editor.open {
    history_path = not arguments.no_history and history_path() or nil, complete = completer.new(commands.arguments()) }
    or lines.open { prompt = is_interactive }
  local _ <close> = defer(function()
    if is_interactive then take_sigint(sigint.handle) end
  end)
  local chat = M.new {
    backend = backend, input = input, is_interactive = is_interactive, messages = before and before.messages,
    output = output.new {
      write = cli.write, paint = paint.painter(is_interactive and 1 or 2), has_status = is_able,
      is_plain = arguments.plain or not is_interactive,
      aside = is_interactive and cli.write or function(text) io.stderr:write(text) end,
      columns = function() return input:columns() end,
    },
  }
  if asker then asker:attach(chat) end
  if is_interactive then
    chat.output:note(("claude in %s; /help lists the commands, Ctrl-D leaves"):format(options.cwd or uv.cwd()), "dim")
    if before then chat.output:note(("going on behind %d messages"):format(#before.messages), "dim") end
  end
  if before then earlier.adopt(before, backend, function(text) chat.output:note(text, "dim") end) end
  local status = chat:run()
  if chat.starting then chat.starting:cancel() end
  return status
end

return M
