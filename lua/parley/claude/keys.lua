--- What the keys that the program understands send, and what marks a paste.
local M = {
  ESCAPE = "\27", ENTER = "\r", UP = "\27[A", DOWN = "\27[B",
  BACKSPACE = "\127", DELETE = "\27[3~", CTRL_K = "\11", CTRL_U = "\21",
  PASTE = "\27[200~", END_PASTE = "\27[201~",
}

--- Why the key that opens the program's editor opens none of ours, where nothing else tells.
M.NO_EDITOR = "the user's key bindings (keybindings.json) must have \"ctrl+g\" do \"chat:externalEditor\", and no "
  .. "settings may name a VISUAL or EDITOR in \"env\""

--- A text as a terminal pastes it.
---@param text string
---@return string
function M.paste(text) return M.PASTE .. text .. M.END_PASTE end

return M
