-- Holds many conversations, so many at a time, and writes one line of results each.
local uv = require "luv"
local parley = require "parley"
local batch = require "parley.command.batch"
local cli = require "parley.command.cli"
local files = require "parley.base.files"
local input = require "parley.command.batch.input"
local memory = require "parley.command.batch.memory"
local output = require "parley.command.batch.output"
local policies = require "parley.policy"
local progress = require "parley.command.batch.progress"
local report = require "parley.command.batch.report"
local tables = require "parley.base.tables"
local tools_file = require "parley.command.tools_file"

local function shard_of(text)
  local index, count = text:match "^(%d+)/(%d+)$"
  index, count = math.tointeger(tonumber(index)), math.tointeger(tonumber(count))
  if index and count and index >= 1 and index <= count then return { index = index, count = count } end
  return nil, ("'%s' is not of the form I/N with I from 1 to N"):format(text)
end

local function define(parser)
  parser:argument("input", 'Conversations: lines of JSON, {"id", "turns": ["…"]} or {"id", "messages": […]}, '
    .. "with cwd, model, system_prompt, permission_mode, allowed_tools, timeout, tools, schema, expect and metadata as "
    .. "you like; a JSON array of them; a Lua file (*.lua) that returns an iterator of such tables; or - for standard "
    .. "input.")
  parser:flag("--text", "The input is plain text: each line that is not blank is the message of a conversation.")
  cli.short_option(parser, "-o", "--output", "FILE",
    "Where the results go, one line of JSON each; default: standard output.")
  cli.short_option(parser, "-j", "--jobs", "N", "Conversations at a time."):convert(cli.count_from(1)):default "4"
  parser:flag("--resume", "Go on where an earlier run ended: what stands in the output is not run again.")
  parser:flag("--retry-failed", "Go on like --resume, and run again what has failed. The new results take the place of "
    .. "the old ones.")
  parser:option("--retries", "How often a conversation that failed is played again."):argname("N")
    :convert(cli.count_from(0)):default "0"
  parser:option("--retry-wait", "Seconds before the first retry, doubled for each further one, up to 60.")
    :argname("S"):convert(cli.seconds):default "1"
  parser:flag("--fail-fast", "End at the first failure; what is running then is not written, and --resume runs it.")
  parser:option("--max-cost", "US dollars that this run may cost: once they are spent no conversation is begun. "
    .. "What runs then is held to its end, and --resume goes on.")
    :argname("USD"):convert(cli.dollars)
  parser:option("--shard", "Only part I of N, 1 to N, chosen by a hash of the id."):argname("I/N"):convert(shard_of)
  parser:option("--report", "A page about the whole output, HTML, written at the end, as `parley report` makes it; "
    .. "- for standard output."):argname "FILE"
  parser:option("--tools", "A Lua file that returns a list of tools for the model: name, description, input_schema, "
    .. "run. A line may name its own."):argname "FILE"
  cli.backend_options(parser)
end

--- Backends for single conversations. Policies are loaded once, so that they may keep state.
local function backend_maker(arguments)
  local common, load_tools = cli.to_backend(arguments), tools_file.loader()
  common.tools = arguments.tools and load_tools(arguments.tools)
  common.max_total_cost_usd = arguments.max_cost -- no conversation alone may cost more; and what they cost is told
  parley.backend(common):close() -- options that nobody can work with are an error at once
  for name, file in pairs(common.policies or {}) do common.policies[name] = policies.load(name, file) end
  return function(own)
    local options = tables.merged({ max_sessions = 1 }, common, own)
    if type(options.tools) == "string" then options.tools = load_tools(options.tools) end
    return parley.backend(options)
  end
end

local function describe(result)
  local id = result.id ~= parley.json.null and (" (%s)"):format(result.id) or ""
  return ("line %d%s failed: %s: %s"):format(result.line, id, result.error.code,
    parley.errors.on_one_line(result.error.message))
end

local function refuse_same_file(one, other)
  if one == "-" or other == "-" then return end
  local left, right = uv.fs_stat(one), uv.fs_stat(other)
  if left and right and left.type == "file" and left.ino == right.ino and left.dev == right.dev then
    error(parley.errors.value_error(("'%s' is both the input and the output"):format(other)), 0)
  end
end

--- A report is of what stands in the output, which is there by now.
local function check_report(arguments, results)
  if arguments.report and not results.size then
    error(parley.errors.value_error "--report needs a file of results: give --output", 0)
  end
  report.check_target(arguments.report, { arguments.output })
end

local function write_report(path, results)
  local page = report.of_file(results)
  if path == "-" then return cli.write(page) end
  files.save(path, page)
end

--- What can be done next; nil when nothing is left to do.
local function describe_remedy(arguments, counts, is_early)
  if is_early then
    return ("ended early; the same command %sgoes on"):format(arguments.retry_failed and "" or "with --resume ")
  end
  if counts.failed + counts.resumed_failed > 0 then return "--retry-failed runs the failed ones again" end
end

local function main(arguments)
  local path, is_resumed = arguments.output or "-", arguments.resume or arguments.retry_failed
  local new_backend = backend_maker(arguments)
  local source <close> = input.open(arguments.input, { text = arguments.text })
  refuse_same_file(arguments.input, path)
  report.check_target(arguments.report, { arguments.input }) -- before the output is made
  local results <close> = output.open(path, { resume = is_resumed })
  check_report(arguments, results)
  local counts, known = batch.counts(), memory.new { retry_failed = arguments.retry_failed }
  counts.total = source.total and math.ceil(source.total / (arguments.shard and arguments.shard.count or 1))
  local shares_terminal = path == "-" and cli.is_terminal(1)
  local reports <close> = progress.open(counts, cli.is_terminal(2) and not shares_terminal)
  local function say(text) reports:say(text) end
  local has_told = {}
  local function tell_lack(event) -- each conversation has it
    if not has_told[event.message] then say(event.message) end
    has_told[event.message] = true
  end
  if is_resumed then results:replay(function(result) known:see(result) end, say) end

  local ok, problem, stopped = pcall(batch.run, {
    source = source, write = function(result) results:append(result) end, new_backend = new_backend,
    jobs = arguments.jobs, memory = known, counts = counts, retries = arguments.retries,
    retry_wait_ms = arguments.retry_wait * 1000, fail_fast = arguments.fail_fast,
    max_cost_usd = arguments.max_cost, shard = arguments.shard,
    on_result = function(result)
      if result.error then say(describe(result)) end
    end,
    on_lack = tell_lack,
  })
  local is_tidy, trouble = true, nil
  if known:has_leftovers() then
    is_tidy, trouble = pcall(results.keep_last, results, function(result) return known:name_of(result) end)
  end
  local took = reports:close()
  say(progress.summary(counts, took))
  local is_spent = arguments.max_cost and (counts.cost_usd or 0) >= arguments.max_cost
  if is_spent and stopped then say(("--max-cost %g is reached"):format(arguments.max_cost)) end
  local remedy = path ~= "-" and describe_remedy(arguments, counts, not ok or stopped)
  if remedy then say(remedy) end
  local is_reported, why_not = true, nil
  if arguments.report then
    is_reported, why_not = pcall(write_report, arguments.report, path)
  end
  if not ok and not is_reported then say(parley.errors.text(why_not)) end
  if not ok then error(problem, 0) end
  if not is_reported then error(why_not, 0) end
  if not is_tidy then error(trouble, 0) end
  return (stopped or counts.failed + counts.resumed_failed > 0) and 1 or 0
end

return cli.run({
  name = "batch", summary = "Holds many conversations, so many at a time, and writes one line of results each.",
  define = define, main = main,
  examples = [[
  parley batch questions.jsonl -o answers.jsonl --jobs 8
  parley batch questions.jsonl -o answers.jsonl --jobs 8 --resume --retries 2 --turn-timeout 300
  parley batch questions.txt --text -o answers.jsonl   # a message a line
  parley batch interview.lua -o answers.jsonl          # the script decides each next turn
  parley batch questions.jsonl -o part-3.jsonl --shard 3/10 --resume]],
}, ...)
