--- A text in the user's pager.
local uv = require "luv"
local errors = require "parley.base.errors"
local task = require "parley.base.task"

local M = {}

--- `-R`: less shows UTF-8 and colours; a short text is paged, too, for the terminal's other screen is left at the end.
local DEFAULT = "less -R"

--- Shows a text with `$PAGER`, and waits until it is left. The caller has let go of the terminal.
---@param text string
--- Raises `ValueError` when there is no such program.
function M.show(text)
  local pager = os.getenv "PAGER"
  if not pager or not pager:find "%S" then pager = DEFAULT end
  local pipe, changed, status = uv.new_pipe(false), task.condition(), nil
  local handle, problem = uv.spawn("/bin/sh", { args = { "-c", pager }, stdio = { pipe, 1, 2 } }, function(code)
    status = code
    changed:notify()
  end)
  if not handle then
    pipe:close()
    error(errors.value_error(("the pager '%s' cannot be started: %s"):format(pager, problem)), 0)
  end
  pipe:write((text:match "^.*[^\n]" or "") .. "\n", function() -- it may be left before it has read all
    if not pipe:is_closing() then pipe:close() end
  end)
  task.shield(function() changed:wait_until(function() return status end) end)
  if not pipe:is_closing() then pipe:close() end
  handle:close()
  if status == 126 or status == 127 then
    error(errors.value_error(("PAGER names no program: '%s'"):format(pager)), 0)
  end
end

return M
