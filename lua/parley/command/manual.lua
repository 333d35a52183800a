--- The commands' help in other forms: one page for `man`, completions for shells. All of it is made from what the
--- commands say of themselves (`parley.cli`), so there is nothing to keep up to date.
local cli = require "parley.command.cli"
local completion = require "parley.command.completion"
local errors = require "parley.base.errors"
local layout = require "parley.command.layout"
local suggest = require "parley.base.suggest"

local M = {}

local MAN_WIDTH = 72

---@class parley.ManualEntry
---@field name string
---@field summary string      the first line of the script
---@field parser table        argparse
---@field command parley.Command

local function bundle()
  return package.loaded["parley.bundle"] or error(errors.value_error "this needs the host: run it with parley", 0)
end

--- The names of the commands that the host carries.
---@return string[] names  sorted
function M.names()
  local names = {}
  for _, path in ipairs(bundle().files) do table.insert(names, path:match "^scripts/([%w-]+)%.lua$") end
  table.sort(names)
  return names
end

--- The commands that the host carries.
---@return parley.ManualEntry[] entries  sorted by name
function M.commands()
  local entries = {}
  for i, name in ipairs(M.names()) do
    local path = "scripts/" .. name .. ".lua"
    local text = bundle().read(path)
    local parser, command = cli.describe(assert(load(text, "@" .. path, "t")))
    entries[i] = { name = name, summary = text:match "^%-%-+ ?([^\n]*)" or "", parser = parser, command = command }
  end
  return entries
end

--- The help of one command.
---@param name string
---@param width integer  in columns
---@return string
--- Raises `ValueError` for a name that is none.
function M.help(name, width)
  for _, entry in ipairs(M.commands()) do
    if entry.name == name then return cli.help(entry.command, width) end
  end
  error(errors.value_error(("no command '%s'%s (see parley --help)"):format(name, suggest.near(name, M.names()))), 0)
end

--- A completion: to be sourced, or installed where the shell looks for such.
---@param shell "bash"|"zsh"|"fish"
---@return string
function M.completion(shell) return completion.write(shell, M.commands()) end

--- A text for roff, in ASCII: man pages are read in every locale.
local function roff(text)
  text = text:gsub("\\", "\\e"):gsub("-", "\\-"):gsub("%f[^\n\0]([.'])", "\\&%1")
  return (text:gsub("[\xC2-\xF4][\x80-\xBF]+", function(char) return ("\\[u%04X]"):format(utf8.codepoint(char)) end))
end

local function literal(text) return ".nf\n" .. roff(text:gsub("%s+$", "")) .. "\n.fi\n" end

local FILES = [[
~/.claude.json, ~/.claude/, or both in $CLAUDE_CONFIG_DIR
    What claude remembers of its user: read by doctor, never written.
~/.claude/projects/FOLDER/SESSION.jsonl
    The transcripts.]]

local VARIABLES = [[
NO_COLOR             Print without colours.
CLAUDE_CONFIG_DIR    Where claude keeps its files.
ANTHROPIC_API_KEY and the like
                     Kept from claude, unless --preserve-provider-env is given.]]

--- The man page, in roff.
---@return string
function M.man()
  local synopsis = layout.table(bundle().synopsis, MAN_WIDTH, "")
  local parts = { ('.TH PARLEY 1 "" "parley %s"\n'):format(roff(bundle().version)),
    ".SH NAME\nparley \\- hold conversations with Claude Code\n", ".SH SYNOPSIS\n", literal(synopsis),
    ".SH DESCRIPTION\n", (roff(bundle().prose):gsub("\n", "\n.PP\n")), "\n.SH COMMANDS\n" }
  for _, entry in ipairs(M.commands()) do
    table.insert(parts, (".SS parley %s\n"):format(roff(entry.name)))
    table.insert(parts, literal(cli.help(entry.command, MAN_WIDTH)))
  end
  table.insert(parts, ".SH ENVIRONMENT\n" .. literal(VARIABLES))
  table.insert(parts, ".SH FILES\n" .. literal(FILES))
  table.insert(parts, ".SH SEE ALSO\nclaude(1), lua(1), busted(1)\n")
  return table.concat(parts)
end

return M
