-- A dialogs policy: tools that only read are allowed, every other one and what cannot be seen is denied; all else is as
-- by default.
--
--   parley ask --permission-mode default --policy dialogs=scripts/examples/read_only_permissions.lua "What is in here?"
local dialogs = require "parley.policy.dialogs"

local READ_ONLY = { Read = true, Grep = true, Glob = true, LS = true, NotebookRead = true, WebSearch = true }
local HARMLESS = { ls = true, cat = true, head = true, tail = true, wc = true, pwd = true, stat = true }

local M = {}

--- One plain command that reads, and nothing behind it.
local function is_harmless(command)
  return command ~= nil and not command:find "[;&|<>`$\n(]" and HARMLESS[command:match "^%s*(%S+)"] == true
end

local function is_read_only(tool_use)
  return READ_ONLY[tool_use.name] or tool_use.name == "Bash" and is_harmless(tool_use.input.command)
end

local function choice_of(dialog, pattern)
  for i, label in ipairs(dialog.choices) do
    if label:find(pattern) then return { choose = i } end
  end
  return { fail = ("the dialog has no choice like '%s'"):format(pattern) }
end

function M.decide(dialog, accept)
  if dialog.kind ~= "permission" then return dialogs.decide(dialog, accept) end
  local tool_use = dialog.tool_use -- nil where the dialog does not show which call it is about, and all of it
  return choice_of(dialog, tool_use and is_read_only(tool_use) and "^Yes$" or "^No")
end

return M
