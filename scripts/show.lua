-- Prints a transcript as a conversation.
local uv = require "luv"
local cli = require "parley.command.cli"
local claude_event = require "parley.claude.event"
local index = require "parley.command.transcript_index"
local json = require("parley.core").json
local output = require "parley.command.chat.output"
local paint = require "parley.command.paint"
local paths = require "parley.claude.paths"
local transcript = require "parley.claude.transcript"

local LINE = 100

local function define(parser)
  cli.offer(parser:argument("session", "Its id, the beginning of its id, or a file."), "sessions")
  parser:flag("--json", "Print messages, for `parley ask --history` and `parley batch`.")
end

--- Prints events: a heading says who speaks, when somebody else does; an empty line stands between the texts and what
--- is told in short.
local function printer()
  local color, out = paint.painter(1), {}
  local speaker, last
  local function piece(kind, who, style, event, text)
    if speaker ~= who then
      local time = type(event.timestamp) == "string" and event.timestamp:match "^%d+%-%d+%-%d+T%d+:%d+" or ""
      cli.write(speaker and "\n" or "", color(style, who), color("dim", (time:gsub("^(.-)T", "  %1 "))), "\n")
    elseif kind == "text" or last == "text" then
      cli.write "\n"
    end
    speaker, last = who, kind
    cli.write("  ", text, "\n")
  end
  local function body(who, style, event, text, color_of_text)
    text = (paint.plain(text):match "^.*%S" or ""):gsub("\n", "\n  ")
    piece("text", who, style, event, color_of_text and color(color_of_text, text) or text)
  end
  local function aside(event, mark, text)
    piece("aside", speaker or "claude", "green", event, color("dim", mark .. " " .. paint.line(text, LINE)))
  end

  function out.assistant(event)
    for _, block in ipairs(event:blocks "text") do
      local text = type(block.text) == "string" and block.text or ""
      if text:find "%S" then body("claude", "green", event, text, event.is_error and "red") end
    end
    for _, block in ipairs(event:blocks "tool_use") do
      piece("aside", "claude", "green", event, color("dim", "→ " .. paint.line(output.describe_call(block), LINE)))
    end
  end

  function out.user(event)
    local kind = claude_event.kind(event)
    if kind == "results" then
      for _, block in ipairs(event:blocks "tool_result") do
        local failed = block.is_error == true and "failed: " or ""
        aside(event, "←", failed .. output.describe_result(block))
      end
    elseif kind == "typed" or kind == "command" then
      body("you", "cyan", event, kind == "command" and transcript.command_text(event) or event:text())
      for _, block in ipairs(event.content) do
        if block.type ~= "text" then aside(event, "+", tostring(block.type)) end
      end
    elseif kind ~= "program" or event:text():find "^%[Request" then
      aside(event, "·", event:text())
    end
  end

  function out.system(event)
    if event.subtype == "compact_boundary" then aside(event, "·", "what stands above was compacted here") end
  end
  return out
end

--- The messages as a JSON list, one a line.
local function print_json(messages)
  local lines = {}
  for i, message in ipairs(messages) do lines[i] = assert(json.encode(message, { sort_keys = true })) end
  cli.write("[", table.concat(lines, ",\n"), "]\n")
end

local function main(arguments)
  local entries = index.list_all(paths.config_folder(uv.os_environ()))
  local events = transcript.read(index.find(arguments.session, entries))
  if arguments.json then return print_json(transcript.messages(events)) end
  local out = printer()
  for _, event in ipairs(events) do
    if out[event.type] then out[event.type](event) end
  end
end

return cli.run({
  name = "show", summary = "Prints a transcript as a conversation.", define = define, main = main,
  examples = [[
  parley show 3f2a
  parley show --json 3f2a > history.json
  parley ask --history history.json "Go on"
  parley show --json 3f2a | jq -c '{messages: ., turns: ["Go on"]}' | parley batch -]],
}, ...)
