--- What a decision about a dialog means on that dialog: which choice, which keys.
local dialog_kinds = require "parley.claude.dialog_kinds"
local options = require "parley.base.options"

local M = {}

--- What consents to a dialog, by what is known of its kind.
---@param dialog parley.Dialog
---@return {choose?: integer, keys?: string}?  nil where nothing on it is known to
function M.consent_to(dialog)
  for _, entry in ipairs(dialog_kinds.all) do
    if entry.kind == dialog.kind then
      for _, pattern in ipairs(entry.yes or {}) do
        for i, label in ipairs(dialog.choices) do
          if label:find(pattern) then return { choose = i } end
        end
      end
      if entry.keys and #dialog.choices == 0 then return { keys = entry.keys } end
    end
  end
end

--- The choice with this label, or the only one whose label begins so.
local function choice_named(dialog, name)
  local found, count = nil, 0
  for i, label in ipairs(dialog.choices) do
    if label == name then return i end
    if label:sub(1, #name) == name then found, count = i, count + 1 end
  end
  return count == 1 and found or nil
end

--- The choices, for a message.
local function choices_of(dialog)
  local list = {}
  for i, label in ipairs(dialog.choices) do list[i] = ("%d %q"):format(i, label) end
  return list[1] and table.concat(list, ", ") or "none"
end

--- Whether this choice refuses what a dialog asks for.
---@param label string
---@return boolean
function M.says_no(label) return label:find "^No%f[%A]" ~= nil end

local function refuse(dialog, why)
  for i, label in ipairs(dialog.choices) do
    if M.says_no(label) then return { choose = i, denied = why } end
  end
  for _, entry in ipairs(dialog_kinds.without_choices) do
    if entry.kind == dialog.kind then return { keys = entry.no, denied = why } end
  end
  return { fail = why }
end

--- Makes of `allow`, `deny` and a choice's label what can be done.
---@param decision table  see `parley.policy.dialogs`
---@param dialog parley.Dialog
---@return {choose?: integer, keys?: string, fail?: string, denied?: string}? concrete  `denied`: why it chooses No
---@return string? wrong  what the decision is instead of one that fits the dialog
function M.resolve(decision, dialog)
  local count = 0
  for _, name in ipairs { "allow", "deny", "choose", "keys", "fail" } do count = count + (decision[name] and 1 or 0) end
  if count == 0 then return nil, "one that says nothing" end
  if count > 1 then return nil, "one that says several things" end
  if decision.deny then return refuse(dialog, decision.deny) end
  if decision.allow then
    local consent = M.consent_to(dialog)
    return consent, not consent and "one that allows what has no choice known to allow it: choose one" or nil
  end
  if decision.choose == nil then return { keys = decision.keys, fail = decision.fail } end
  local choice = type(decision.choose) == "string" and choice_named(dialog, decision.choose) or decision.choose
  if dialog.choices[choice] then return { choose = choice } end
  return nil, ("one that chooses %s, where the choices are: %s"):format(options.describe(decision.choose),
    choices_of(dialog))
end

return M
