-- A dialogs policy that judges the call that a dialog is about, where that can be told: what only reads is allowed.
local dialogs = require "parley.policy.dialogs"
local read_only = dofile "scripts/examples/read_only_permissions.lua"

local M = {}

function M.decide(dialog, accept)
  if dialog.kind ~= "permission" then return dialogs.decide(dialog, accept) end
  local pattern = dialog.tool_use and read_only.decide(dialog.tool_use).allow and "^Yes$" or "^No"
  for i, label in ipairs(dialog.choices) do
    if label:find(pattern) then return { choose = i } end
  end
  return { fail = ("the dialog has no choice like '%s'"):format(pattern) }
end

return M
