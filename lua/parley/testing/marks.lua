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
  own_turn = { own_turn = { text = "<task-notification>done", after_ms = 3 } },
  dies_before = { crash = "before_record" },
  dies_after = { crash = "after_user" },
  dies_mid_line = { crash = "mid_line" },
  dies_in_tool = { crash = "during_tool", tool = { name = "Bash", input = { command = "true" }, result = "done" } },
  dies_at_end = { crash = "after_answer" },
}
--- The texts of the answers that are not the echo.
M.TEXTS = { tool = "after the tool", permission = "after the tool", blocks = "one\ntwo" }
--- The program ends at these.
M.DEADLY = { dies_before = true, dies_after = true, dies_mid_line = true, dies_in_tool = true, dies_at_end = true }
--- A dialog comes up.
M.ASKING = { permission = true, asks = true }

--- What messages are made of.
M.ALPHABET = {
  "a", "B", "7", " ", "  ", "\n", "é", "日本", "😀", "/", "!", "@", "\\", "`", "'", "\"", "{", "#", "~", "…",
}

return M
