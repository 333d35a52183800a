-- Draws the picture of the front page: a conversation in `parley chat` with the simulated claude, as a terminal shows
-- it. `make picture` writes it to scripts/chat.svg.
local helper = require "spec.helper"
local terminals = require "parley.testing.terminal"
local testing = require "parley.testing"

local ROWS, COLUMNS = 11, 88
local CELL_WIDTH, CELL_HEIGHT, MARGIN, TITLE = 8.4, 18, 16, 30
local QUESTIONS = { "Which of the C files is the longest?", "Has it a spec?" }
local ANSWERS = {
  { on = "longest", after = "src/json_text.c, with 362 lines. Half of it is the table of characters.",
    tool = { name = "Bash", input = { command = "wc -l src/*.c | sort -n | tail -3" },
      result = "  342 src/lua_line.c\n  362 src/json_text.c\n 5120 total" } },
  { on = "a spec", after = "Yes: spec/src/json_spec.lua, 536 lines, and it passes.",
    tool = { name = "Bash", input = { command = "make test SPEC=spec/src/json_spec.lua" },
      result = "++++++++++\n61 successes / 0 failures / 0 errors / 0 pending" } },
}
local PALETTE = { [0] = "#282c34", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4" }

local function escape(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function style_of(run)
  local colour = run.foreground
  if math.type(colour) == "integer" then colour = PALETTE[colour % 8] end
  return (colour and (' fill="%s"'):format(colour) or "") .. (run.bold and ' font-weight="bold"' or "")
    .. (run.dim and ' opacity="0.6"' or "") .. (run.italic and ' font-style="italic"' or "")
end

local function svg_of(screen)
  local width = math.ceil(COLUMNS * CELL_WIDTH + 2 * MARGIN)
  local height = ROWS * CELL_HEIGHT + 2 * MARGIN + TITLE
  local lines = {
    ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" '):format(width, height, width,
      height) .. 'font-family="ui-monospace,Menlo,DejaVu Sans Mono,monospace" font-size="14" fill="#dcdfe4">',
    ('<rect width="%d" height="%d" rx="8" fill="#1e2127"/>'):format(width, height),
    ('<text x="%d" y="20" text-anchor="middle" fill="#7f848e">parley chat</text>'):format(width // 2),
  }
  for row = 1, ROWS do
    for _, run in ipairs(screen:attributes(row)) do
      if run.text:find "%S" then
        local indent = #run.text:match "^ *"
        table.insert(lines, ('<text x="%.1f" y="%d"%s xml:space="preserve">%s</text>'):format(
          MARGIN + (run.from - 1 + indent) * CELL_WIDTH, TITLE + MARGIN + row * CELL_HEIGHT - 5, style_of(run),
          escape(run.text:sub(indent + 1))))
      end
    end
  end
  table.insert(lines, "</svg>\n")
  return table.concat(lines, "\n")
end

local function main(path)
  local kit <close> = testing.kit { script = { answers = ANSWERS } }
  local terminal <close> = terminals.open { argv = { helper.host, "chat", "--executable", kit.executable },
    environment = helper.environment({ TERM = "xterm-256color" }, kit.environment), cwd = kit.cwd, rows = ROWS,
    columns = COLUMNS }
  for i, question in ipairs(QUESTIONS) do
    terminal:wait_for "\n>"
    terminal:write(question .. "\r")
    terminal:wait_for(ANSWERS[i].after)
  end
  terminal:write "Which function is the riskiest?"
  terminal:wait_for "riskiest?"
  helper.write(path, svg_of(terminal.screen), "644")
  terminal:write "\21\4" -- clears the line, and leaves
  terminal:exit()
end

return main(arg[1] or "scripts/chat.svg")
