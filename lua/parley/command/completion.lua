--- The completions for bash, zsh and fish, made from what the commands say of themselves.
---
--- What an option or an argument takes is told by its `values`, where `cli.offer` has given it some, else by its name:
--- FILE, DIR, or something that nobody can guess.
local bash = require "parley.command.completion.bash"
local fish = require "parley.command.completion.fish"
local zsh = require "parley.command.completion.zsh"

local M = {}

---@class parley.completion.Taken  what stands behind an option, or as an argument
---@field kind "file"|"dir"|"free"|"values"|"list"|"pairs"|"sessions"  "list": values with commas between them;
---                                          "pairs": NAME=FILE, with a name of the values
---@field name string
---@field values string[]
---@field is_optional boolean

---@class parley.completion.Option
---@field aliases string[]
---@field summary string
---@field takes? parley.completion.Taken  nil of a flag
---@field may_repeat boolean

---@class parley.completion.Command
---@field name string
---@field summary string
---@field options parley.completion.Option[]
---@field arguments parley.completion.Taken[]
---@field ends_with_list boolean  the last argument may be given more than once

local function first_sentence(text) return (text:match "^(.-)[.:;] " or text:gsub("%.$", "")) end

local function taken_by(element, without_name)
  local name = tostring(type(element._argname) == "table" and element._argname[1] or element._argname or
    element._name or "")
  local kind, values = without_name, {}
  if element.values == "sessions" then
    kind = "sessions"
  elseif element.values then
    values = element.values
    kind = name:find "," and "list" or name == "NAME=FILE" and "pairs" or "values"
  elseif name:find "FILE$" then
    kind = name == "NAME=FILE" and "free" or "file"
  elseif name == "DIR" then
    kind = "dir"
  end
  return { kind = kind, name = name, values = values, is_optional = element._minargs == 0 }
end

--- What is known of the commands.
---@param entries parley.ManualEntry[]
---@return parley.completion.Command[]
function M.describe(entries)
  local commands = {}
  for i, entry in ipairs(entries) do
    local command = { name = entry.name, summary = first_sentence(entry.summary), options = {}, arguments = {},
      ends_with_list = false }
    for _, option in ipairs(entry.parser._options) do
      table.insert(command.options, { aliases = option._aliases, summary = first_sentence(option._description or ""),
        takes = option._maxargs > 0 and taken_by(option, "free") or nil, may_repeat = option._maxcount > 1 })
    end
    for _, argument in ipairs(entry.parser._arguments) do
      table.insert(command.arguments, taken_by(argument, "file"))
      command.ends_with_list = argument._maxargs > 1
    end
    commands[i] = command
  end
  return commands
end

local SHELLS = { bash = bash.write, zsh = zsh.write, fish = fish.write }

--- Makes a completion.
---@param shell "bash"|"zsh"|"fish"
---@param entries parley.ManualEntry[]
---@return string
function M.write(shell, entries) return SHELLS[shell](M.describe(entries)) end

return M
