-- Makes a page of a batch's results: verdicts, times, tokens, cost, failures.
local cli = require "parley.command.cli"
local files = require "parley.base.files"
local report = require "parley.command.batch.report"

local function define(parser)
  parser:argument("results", "The output of `parley batch`, of a running one, too; - for standard input.")
  cli.short_option(parser, "-o", "--output", "FILE", "Where the page goes, HTML; default: standard output.")
end

local function main(arguments)
  report.check_target(arguments.output, { arguments.results })
  local page = report.of_file(arguments.results)
  if not arguments.output or arguments.output == "-" then return cli.write(page) end
  files.save(arguments.output, page)
end

return cli.run({
  name = "report", summary = "Makes a page of a batch's results: verdicts, times, tokens, cost, failures.",
  define = define, main = main, examples = [[
  parley report answers.jsonl -o report.html
  cat part-*.jsonl | parley report - > report.html]],
}, ...)
