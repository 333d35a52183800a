-- A dialogs policy: answers the model's questions, each with one answer or with several, as it stands below.
--
--   parley ask --permission-mode default --policy dialogs=scripts/examples/answer_questions.lua "Plan a sandwich"
local default = require "parley.policy.dialogs"

local M = {}

--- The answers, by the question.
local ANSWERS = { ["What shall be on top?"] = { Egg = true, Cheese = true }, ["Which bread?"] = { Rye = true } }

--- What is wanted of the question that is shown: the call may have several, each with a dialog of its own.
local function wanted_in(dialog)
  local shown = dialog.text:gsub("%s", "") -- a long one is broken into rows
  for _, question in ipairs(dialog.tool_use.input.questions) do
    if shown:find(question.question:gsub("%s", ""), 1, true) then return ANSWERS[question.question] end
  end
end

function M.decide(dialog, accept)
  if dialog.kind ~= "question" or not dialog.tool_use then return default.decide(dialog, accept) end
  if dialog.choices[1] == "Submit answers" then return { choose = 1 } end -- the page behind several
  local wanted = wanted_in(dialog)
  if not wanted then return { fail = "no answer to it is known" } end
  for i, label in ipairs(dialog.choices) do -- of several one is ticked, and the dialog comes again
    local is_ticked = dialog.checked and dialog.checked[i]
    local goes_on = dialog.checked and is_ticked == nil -- "Submit" or "Next", behind all that can be ticked
    if goes_on or wanted[label] and not is_ticked then return { choose = i } end
  end
  return { fail = "the answer is not among those to choose from" }
end

return M
