-- Looks for what stands between you and the first answer.
local parley = require "parley"
local cli = require "parley.command.cli"
local doctor = require "parley.command.doctor"
local files = require "parley.base.files"
local launch = require "parley.claude.launch"
local paint = require "parley.command.paint"
local probe = require "parley.command.probe"
local probe_findings = require "parley.command.probe_findings"
local session = require "parley.session"
local tables = require "parley.base.tables"

local function define(parser)
  parser:flag("--probe", "Start claude, see whether it gets ready, and end it. Nothing is sent.")
  parser:flag("--probe-turn", "Send one message too, and see what becomes of it.")
  parser:flag("--json", "Print one JSON object.")
  cli.backend_options(parser)
end

--- The options of one process, and of one session.
local function split(options)
  parley.backend(options):close() -- raises for a bad one
  local of_process = tables.picked(options, launch.rules)
  return of_process, tables.merged(tables.picked(options, session.rules), of_process)
end

local STYLES = { ok = "green", warning = "yellow", problem = "red" }

local function print_finding(finding)
  local color = paint.painter(1)
  cli.write(color(STYLES[finding.level], ("%-8s"):format(finding.level)), (" %-12s "):format(finding.check),
    paint.plain(finding.message), "\n")
  if finding.remedy then cli.write((" "):rep(22), "→ ", paint.plain(finding.remedy), "\n") end
end

--- Runs the probe and adds what it found.
local function run_probe(arguments, options, context, findings)
  local progress <close> = cli.progress(function(seconds) return ("trying claude, %d s"):format(seconds) end)
  local facts = probe.measure(options, { turn = arguments.probe_turn, dropped = context.dropped })
  progress.clear()
  local found = probe_findings.judge(facts)
  table.move(found, 1, #found, #findings + 1, findings)
  local is_good = doctor.worst(found) ~= "problem"
  if facts.jsonl_path and is_good then files.remove(facts.jsonl_path) end
  if facts.jsonl_path and not is_good then
    table.insert(findings, { check = "transcript", level = "ok", message = "kept at " .. facts.jsonl_path })
  end
  return found
end

local function main(arguments)
  local of_process, options = split(cli.to_backend(arguments))
  local findings, context = doctor.examine(of_process, arguments.accept)
  if not arguments.json then
    for _, finding in ipairs(findings) do print_finding(finding) end
  end
  local shown = #findings
  if (arguments.probe or arguments.probe_turn) and context.version then
    run_probe(arguments, options, context, findings)
  end
  local worst = doctor.worst(findings)
  if arguments.json then
    cli.write(assert(parley.json.encode({ level = worst, version = context.version, cwd = context.cwd,
      findings = parley.json.array(findings) }, { sort_keys = true, indent = 2 })), "\n")
  else
    for i = shown + 1, #findings do print_finding(findings[i]) end
  end
  return worst == "problem" and 1 or 0
end

return cli.run({
  name = "doctor", summary = "Looks for what stands between you and the first answer, and says what to do about it.",
  define = define, main = main, examples = [[
  parley doctor
  parley doctor --probe --cwd /src/thing --accept trust
  parley doctor --probe-turn --json]],
}, ...)
