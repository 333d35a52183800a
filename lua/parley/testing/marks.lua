--- What random runs say to the simulated claude, and what it does when a mark is in a message (`mark:NAME`).
local M = {}

--- What the simulated model does at each.
M.ANSWERS = {
  half_line = { half_line_ms = 5 },
  reorder = { reorder = true },
  slow = { delay_ms = 40 },
  retry = { retries = 1, retry_ms = 10 },
  tool = { tool = { name = "Bash", input = { command = "true" }, result = "done" }, after = "after the tool" },
  permission = { tool = { name = "Bash", input = { command = "true" }, result = "done", permission = true },
    after = "after the tool" },
  asks = { dialog = { title = "Which way?", choices = { "Left", "Right" } } },
  blocks = { blocks = { { type = "text", text = "one" }, { type = "text", text = "two" } } },
  lines = { text = "one\ntwo\nthree\nfour", line_ms = 40 },
  breaks_off = { text = "one\ntwo\nthree", breaks_off = "one\ntwo\nth", line_ms = 40 },
  own_turn = { own_turn = { text = "<task-notification>done", after_ms = 3 } },
  dies_before = { crash = "before_record" },
  dies_after = { crash = "after_user" },
  dies_mid_line = { crash = "mid_line" },
  dies_in_tool = { crash = "during_tool", tool = { name = "Bash", input = { command = "true" }, result = "done" } },
  dies_at_end = { crash = "after_answer" },
}
--- The texts of the answers that are not the echo.
M.TEXTS = { tool = "after the tool", permission = "after the tool", blocks = "one\ntwo",
  lines = "one\ntwo\nthree\nfour", breaks_off = "one\ntwo\nthree" }
--- The program ends at these.
M.DEADLY = { dies_before = true, dies_after = true, dies_mid_line = true, dies_in_tool = true, dies_at_end = true }
--- A dialog comes up.
M.ASKING = { permission = true, asks = true }

--- What messages are made of.
M.ALPHABET = {
  "a", "B", "7", " ", "  ", "\n", "é", "日本", "😀", "/", "!", "@", "\\", "`", "'", "\"", "{", "#", "~", "…",
}

--- What is wrong with the partial texts among the events of a turn: what came of a message must be how a message
--- behind it begins, and all of it where that was said; one that was cut off may have none.
---@param events parley.Event[]
---@param is_whole boolean  the turn has ended well
---@return string? problem
function M.wrong_partials(events, is_whole)
  local open, finals, has_user = {}, {}, false
  for place, event in ipairs(events) do
    has_user = has_user or event.type == "user"
    if event.type == "partial" then
      if not has_user then return "a partial text before the message" end
      local group = open[event.message] or { text = "", index = 0 }
      open[event.message] = group
      if group.is_final then return "a partial text behind the last one" end
      if event.index ~= group.index then return "a partial text out of its place" end
      group.text, group.index, group.is_final = group.text .. event.text, group.index + 1, event.final
      if event.final then table.insert(finals, { text = group.text, place = place }) end
    end
  end
  for _, final in ipairs(finals) do
    local following, parts = events[final.place + 1], {}
    local id = following and following.message_id
    for i = final.place + 1, #events do
      if events[i].type == "assistant" and events[i].message_id == id then
        for _, block in ipairs(events[i]:blocks "text") do table.insert(parts, block.text) end
      end
    end
    if is_whole and table.concat(parts) ~= final.text then
      return ("partial text %q is not its message's %q"):format(final.text, table.concat(parts))
    end
  end
end

return M
