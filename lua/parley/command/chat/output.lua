--- What a conversation looks like: answers as they are, tool calls in a line each, a status line while something is
--- waited for.
---
--- Nothing that came from the model or a tool reaches the terminal with its control characters.
local answer = require "parley.command.chat.answer"
local claude_commands = require "parley.claude.commands"
local errors = require "parley.base.errors"
local json = require "parley.core".json
local paint = require "parley.command.paint"

local M = {}

--- On no terminal a line of a tool call is cut here.
local PLAIN_COLUMNS = 120

--- The field of a tool's input that says most, by what the program's tools call it.
local ESSENTIAL = { "command", "file_path", "notebook_path", "pattern", "query", "url", "description", "prompt", "path",
  "skill" }

---@class parley.ChatOutput
---@field package options table
---@field package answers parley.ChatAnswer
local Output = {}
Output.__index = Output

--- Makes an output.
---@param options {write: fun(text: string), aside: fun(text: string), columns: (fun(): integer), has_status: boolean,
---       is_plain?: boolean, paint: (fun(style: string, text: string): string)}  `is_plain`: Markdown stands as it was
---       written, as it does without colours; `write` takes answers, `aside` all else; `paint` is of
---       `parley.paint`; `has_status` needs a terminal that can erase
---@return parley.ChatOutput
function M.new(options)
  local self = setmetatable({ options = options }, Output)
  self.answers = answer.new {
    write = function(text)
      self:clear()
      options.write(text)
    end,
    paint = not options.is_plain and options.paint("bold", "x") ~= "x" and options.paint or nil,
  }
  return self
end

--- A row that never becomes two: the terminal's wrapping is off while it is written, for wide characters.
local function row(self, style, text)
  local columns = self.options.has_status and self.options.columns() - 1 or PLAIN_COLUMNS
  local indent = text:match "^ *"
  local line = self.options.paint(style, indent .. paint.line(text, columns - #indent))
  return self.options.has_status and "\27[?7l" .. line .. "\27[?7h" or line
end

--- Shows what is waited for in the last row, until something else is written.
---@param text string
function Output:status(text)
  if not self.options.has_status then return end
  if text == self.shown then return end
  self.options.aside("\r" .. row(self, "dim", text) .. "\27[K")
  self.shown = text
end

--- Wipes the status line away.
function Output:clear()
  if self.shown then self.options.aside "\r\27[K" end
  self.shown = nil
end

--- Writes an answer, or what of it was not written as it came.
---@param text string
function Output:answer(text) self.answers:block(text) end

--- Writes what has come of an answer up to now, before something else is written.
function Output:flush() self.answers:flush() end

--- Writes what has come of an answer that is cut off.
function Output:finish() self.answers:finish() end

--- Writes what is no answer.
---@param text string
---@param style? "dim"|"red"
function Output:note(text, style)
  self:clear()
  text = paint.plain(text)
  self.options.aside((style and self.options.paint(style, text) or text) .. "\n")
end

local function line(self, style, text)
  self:clear()
  self.options.aside(row(self, style, text) .. "\n")
end

--- The essence of a tool call: its name and what it works on.
---@param block table  of type `tool_use`
---@return string
function M.describe_call(block)
  local input = type(block.input) == "table" and block.input or {}
  for _, name in ipairs(ESSENTIAL) do
    if type(input[name]) == "string" then return ("[%s] %s"):format(block.name, input[name]) end
  end
  local text = next(input) ~= nil and json.encode(input, { sort_keys = true })
  return ("[%s]%s"):format(block.name, text and " " .. text or "")
end

--- The essence of a tool's result: its first line, and how much more there is.
---@param block table  of type `tool_result`
---@return string
function M.describe_result(block)
  local text, others = block.content, {}
  if type(text) == "table" then
    local parts = {}
    for _, part in ipairs(text) do
      if type(part) == "table" then
        table.insert(part.type == "text" and parts or others, part.text or tostring(part.type))
      end
    end
    text = table.concat(parts, "\n")
  end
  if type(text) ~= "string" then text = "" end
  local trimmed = text:match "^.*%S" or ""
  local place = trimmed:find "%S"
  local first = place and trimmed:match("^[^\n]*", trimmed:sub(1, place):match "^.*\n()") or others[1] or "(nothing)"
  local _, breaks = trimmed:gsub("\n", "")
  if breaks == 0 then return first end
  return ("%s (+%d line%s, %s)"):format(first, breaks, breaks == 1 and "" or "s", paint.size(#text))
end

--- What a command says, but not that its panel was closed: nobody has seen that it was open.
local function command_output(text)
  local parts = {}
  for part in text:gmatch "<local%-command%-std%l+>(.-)</local%-command%-std%l+>" do
    if part:find "%S" and not part:find "^%u%l+ dialog dismissed$" then table.insert(parts, part) end
  end
  return parts
end

local writers = {}

function writers.assistant(self, event)
  if event.is_error then return end -- it becomes the turn's error
  for _, block in ipairs(event.content) do
    if block.type == "text" then
      self:answer(block.text)
    elseif block.type == "tool_use" then
      line(self, "dim", M.describe_call(block))
    end
  end
end

function writers.partial(self, event) self.answers:add(event) end

function writers.user(self, event)
  for _, block in ipairs(event:blocks "tool_result") do
    line(self, block.is_error == true and "red" or "dim", "  " .. M.describe_result(block))
  end
  if claude_commands.failure_in(event) then return end
  for _, part in ipairs(command_output(event:text())) do self:note(part) end
end

--- Notices that are shown as they come.
local NOTICES = { informational = "red", attachment_missing = "red", permission_mode_unavailable = "red",
  message_joined = "dim", injection_fallback = "dim", compact_boundary = "dim" }

function writers.system(self, event)
  local message = event.message
  if claude_commands.failure_in(event) then return end -- it becomes the command's error
  if event.subtype == "api_retry" then
    line(self, "red", ("%s; attempt %d of %d"):format(message, event.attempt, event.max_attempts))
  elseif event.subtype == "local_command" and type(message) == "string" then
    for _, part in ipairs(command_output(message)) do self:note(part) end
  elseif event.subtype == "dialog_answered" and event.kind == "panel" then
    self:note((event.text:gsub("\n[^\n]*Esc to %l+$", ""))) -- without the row that tells how to close it
  elseif NOTICES[event.subtype] then
    self:note(type(message) == "string" and message or event.subtype, NOTICES[event.subtype])
  end
end

function writers.result(self, event)
  self:finish()
  if event.cost_usd then self:note(("($%.4f)"):format(event.cost_usd), "dim") end
end

--- Writes what there is to see of an event.
---@param event parley.Event
function Output:event(event)
  local writer = writers[event.type]
  if writer then writer(self, event) end
end

--- Writes an error.
---@param err any
function Output:error(err)
  self:note(errors.is(err, "ValueError") and err.message or tostring(err), "red") -- what was typed wrong has no name
end

return M
