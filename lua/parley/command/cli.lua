--- What the commands share: their command line, the options that choose and start `claude`, the progress line.
local argparse = require "argparse"
local uv = require "luv"
local clock = require "parley.base.clock"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local launch = require "parley.claude.launch"
local layout = require "parley.command.layout"
local policies = require "parley.policy"
local stdin = require "parley.command.stdin"
local stdout = require "parley.command.stdout"

local M = {}

--- The program's own short names of models (2.1.332), for the completion; it takes whole ones, too.
local MODELS = { "haiku", "opus", "opusplan", "sonnet" }

---@class parley.Command
---@field name string
---@field summary string
---@field examples string      lines for the end of the help
---@field define fun(parser: table)  adds arguments and options (argparse)
---@field main fun(arguments: table): integer?  returns the exit status

--- While set, `run` hands over the parser instead of running: for completions and the man page.
local collecting

--- What is wrong with the value of an option is said with the option's name.
local function name_problems(option)
  local convert = option._convert
  if not convert then return end
  option:convert(function(text)
    local value, problem = convert(text)
    if value == nil then return nil, ("%s: %s"):format(option._aliases[#option._aliases], problem) end
    return value
  end)
end

local function parser_of(command)
  local parser = argparse("parley " .. command.name, command.summary)
  command.define(parser)
  for _, option in ipairs(parser._options) do name_problems(option) end
  return parser
end

--- The help of a command.
---@param command parley.Command
---@param width integer  in columns
---@return string
function M.help(command, width)
  local parser = parser_of(command):usage_max_width(math.huge)
  parser:usage(layout.usage(parser:get_usage(), width))
  parser:help_max_width(width):help_description_margin(layout.is_wide(width) and 25 or 7)
  return ("%s\n\nExamples:\n%s"):format(parser:get_help(), layout.shell(command.examples, width))
end

--- Whether a word is one of the parser's options, and one that wants a word behind it.
local function takes_argument(parser, word)
  for _, option in ipairs(parser._options) do
    for _, alias in ipairs(option._aliases) do
      if alias == word then return option._maxargs > 0 end
    end
  end
  return false
end

local function joined(option, word) return option .. (option:find "^%-%-" and "=" or "") .. word end

--- The words that are no options, nor what stands behind one.
local function places_in(parser, words)
  local found, is_behind, skips = {}, false, false
  for _, word in ipairs(words) do
    local is_option = not is_behind and word:find "^%-." ~= nil
    if is_behind or not is_option and not skips then table.insert(found, word) end
    skips = is_option and takes_argument(parser, word)
    is_behind = is_behind or word == "--"
  end
  return found
end

--- Which word is one too many.
local function explain_too_many(parser, words, name)
  local most = 0
  for _, argument in ipairs(parser._arguments) do most = most + argument._maxargs end
  local word = places_in(parser, words)[most + 1]
  return ("'%s' is one argument too many: parley %s takes %s"):format(word or "", name, most == 0 and "none"
    or ("%d; words that belong together stand in quotes"):format(most))
end

--- What an argument that is missing may be.
local function explain_missing(problem, parser)
  local missing = problem:match "^missing argument '(.-)'"
  for _, argument in ipairs(parser._arguments) do
    if argument._name == missing and type(argument.values) == "table" then
      return ("%s: one of %s"):format(problem, table.concat(argument.values, ", "))
    end
  end
  return problem
end

--- What argparse finds wrong, and what to write instead where a word that begins with a dash was no option.
local function explain(problem, parser, words, name)
  if problem == "too many arguments" then return explain_too_many(parser, words, name) end
  local wanting = problem:match "^option '(.-)' requires an argument"
  local unknown = problem:match "^unknown option '(.-)'"
  for i, word in ipairs(words) do
    local following = words[i + 1]
    if word == wanting and following and following:find "^%-" then
      return ("%s; one that begins with a dash is joined to it: '%s'"):format(problem, joined(word, following))
    elseif unknown and word:sub(1, #unknown) == unknown then
      if i > 1 and takes_argument(parser, words[i - 1]) then
        return ("unknown option '%s'; as the argument of %s it is joined to it: '%s'"):format(word, words[i - 1],
          joined(words[i - 1], word))
      elseif word:find "%s" or word:find "^%-%d" then
        local said = #word < 50 and not word:find "\n" and word or word:match "^..[^\n%s]*" .. " …"
        return ("'%s' is taken for an option; what begins with a dash stands behind --: parley %s -- '%s'"):format(said,
          name, said)
      end
      break
    end
  end
  return explain_missing(problem, parser)
end

--- Reads the command line and runs the command.
---@param command parley.Command
---@param ... string  the command line
---@return integer? status
--- Raises `ValueError` for a bad command line.
function M.run(command, ...)
  local parser = parser_of(command)
  if collecting then
    collecting(parser, command)
    return 0
  end
  local words = table.pack(...)
  for _, word in ipairs(words) do
    if word == "--" then break end
    if word == "--help" or word == "-h" then
      stdout.write(M.help(command, layout.width()), "\n")
      return 0
    end
  end
  local ok, arguments = parser:pparse(words)
  if not ok then
    local problem = explain(arguments:gsub("\nDid", "; did"), parser, words, command.name)
    error(errors.value_error(("%s (see parley %s --help)"):format(problem, command.name)), 0)
  end
  local kit <close> = arguments.stand_in and require("parley.testing").kit() or nil
  arguments.stand_in = kit
  return command.main(arguments)
end

--- The parser of a command, without running it.
---@param chunk function  the command's script, loaded
---@return table parser
---@return parley.Command command
function M.describe(chunk)
  local parser, command
  collecting = function(...) parser, command = ... end
  local ok, problem = pcall(chunk)
  collecting = nil
  if not ok then error(problem, 0) end
  return parser, command
end

--- Adds an option that has a short name, too. The parser's own help puts the two on lines that stand out of line.
---@param parser table
---@param short string        `"-o"`
---@param long string         `"--output"`
---@param argument string     `"FILE"`
---@param description string
---@return table option
function M.short_option(parser, short, long, argument, description)
  local option = parser:option(short .. " " .. long, description):argname(argument)
  function option._get_label_lines() return { ("%s, %s %s"):format(short, long, argument) } end
  return option
end

--- For an option's `convert`: seconds, whole or not.
---@param text string
---@return number? seconds
---@return string? problem
function M.seconds(text)
  local number = tonumber(text)
  if number and number >= 0 then return number end
  return nil, ("'%s' is not a number of seconds"):format(text)
end

--- Makes an option's `convert`: a whole number.
---@param least integer
---@return fun(text: string): integer?, string?
function M.count_from(least)
  return function(text)
    local number = math.tointeger(tonumber(text))
    if number and number >= least then return number end
    return nil, ("'%s' is not a whole number from %d on"):format(text, least)
  end
end

--- An option's `convert`: an amount of money.
---@param text string
---@return number?
---@return string? problem
function M.dollars(text)
  local number = tonumber(text)
  if number and number > 0 and number < math.huge then return number end
  return nil, ("'%s' is not a number of US dollars above 0"):format(text)
end

--- Makes an option's `convert`: a name and what it stands for.
local function pair_of(form)
  return function(text)
    local name, value = text:match "^([^=]+)=(.*)$"
    if name then return { name, value } end
    return nil, ("'%s' is not of the form %s"):format(text, form)
  end
end

local function add_list(arguments, name, text)
  arguments[name] = arguments[name] or {}
  for word in text:gmatch "[^,]+" do table.insert(arguments[name], word) end
end

--- Tells the completion what an option or an argument takes.
---@param element table  argparse's
---@param values string[]|"sessions"  "sessions": the id of one
---@return table element
function M.offer(element, values)
  element.values = values
  return element
end

--- Adds the options that choose, start and watch `claude`.
---@param parser table
function M.backend_options(parser)
  parser:option("--cwd", "The working directory of claude."):argname "DIR"
  M.offer(M.short_option(parser, "-m", "--model", "NAME", "The model."), MODELS)
  M.short_option(parser, "-s", "--system-prompt", "TEXT", "Replaces the system prompt.")
  parser:option("--append-system-prompt", "Goes behind the system prompt."):argname "TEXT"
  M.offer(parser:option("--permission-mode", "bypassPermissions (the default), default, plan, acceptEdits, …")
    :argname "MODE", launch.permission_modes)
  local kinds = policies.acceptable()
  M.offer(parser:option("--accept", ("Dialogs that may be answered with yes: %s."):format(table.concat(kinds, ", ")))
    :argname("KIND[,KIND]"):action(add_list):count "*", kinds)
  parser:option("--allowed-tools", "Tools that need no permission."):argname("TOOL[,TOOL]"):action(add_list):count "*"
  parser:option("--disallowed-tools", "Tools that are not offered."):argname("TOOL[,TOOL]"):action(add_list):count "*"
  parser:option("--mcp-config", "A file of MCP servers."):argname("FILE"):count "*"
  parser:option("--add-dir", "A further folder that claude may use."):argname("DIR"):count "*"
  parser:option("--effort", "How hard the model thinks."):argname "LEVEL"
  parser:option("--settings", "Settings for claude, a file or JSON."):argname "FILE"
  parser:option("--executable", "The claude to run."):argname "FILE"
  parser:flag("--stand-in", "Run a simulated claude instead, in a home and a folder of its own: no account is needed.")
  parser:option("--extra-arg", "A further argument for claude, as it is."):argname("WORD"):count "*"
  parser:option("--env", "A variable of claude's environment."):argname("NAME=VALUE"):convert(pair_of "NAME=VALUE")
    :count "*"
  parser:flag("--preserve-provider-env", "Keep ANTHROPIC_API_KEY and the like in claude's environment.")
  parser:option("--startup-timeout", "Seconds until claude must be ready."):argname("S"):convert(M.seconds)
  parser:flag("--costs", "Have the results say what their turns have cost (cost_usd).")
  parser:option("--turn-timeout", "Seconds that a turn may take."):argname("S"):convert(M.seconds)
  M.offer(parser:option("--injection", "How a history reaches claude: native_jsonl or concat_message."):argname "MODE",
    { "native_jsonl", "concat_message" })
  M.offer(parser:option("--first-message", "How the first message reaches claude: typed (the default) or argument, on "
    .. "its command line, where everybody on the machine can read it."):argname "MODE", { "typed", "argument" })
  local names = policies.names()
  M.offer(parser:option("--policy", ("Replaces %s or %s."):format(table.concat(names, ", ", 1, #names - 1),
    names[#names])):argname("NAME=FILE"):convert(pair_of "NAME=FILE"):count "*", names)
end

local function map_of(pairs_given)
  if #pairs_given == 0 then return nil end
  local map = {}
  for _, pair in ipairs(pairs_given) do map[pair[1]] = pair[2] end
  return map
end

local function to_ms(seconds) return seconds and seconds * 1000 end

local function list_or_nil(value) return value and #value > 0 and value or nil end

--- The options of `parley.backend` that a command line names.
---@param arguments table
---@return table options
function M.to_backend(arguments)
  local stand_in = arguments.stand_in and arguments.stand_in.options or {}
  local environment = map_of(arguments.env)
  for name, value in pairs(stand_in.extra_env or {}) do
    environment = environment or {}
    environment[name] = environment[name] or value
  end
  return {
    cwd = arguments.cwd or stand_in.cwd, model = arguments.model, system_prompt = arguments.system_prompt,
    append_system_prompt = arguments.append_system_prompt, permission_mode = arguments.permission_mode,
    accept = list_or_nil(arguments.accept), allowed_tools = list_or_nil(arguments.allowed_tools),
    disallowed_tools = list_or_nil(arguments.disallowed_tools), mcp_config = list_or_nil(arguments.mcp_config),
    add_dir = list_or_nil(arguments.add_dir), effort = arguments.effort, settings = arguments.settings,
    executable = stand_in.executable or arguments.executable, extra_env = environment,
    extra_args = list_or_nil(arguments.extra_arg),
    preserve_provider_env = arguments.preserve_provider_env, startup_timeout_ms = to_ms(arguments.startup_timeout),
    costs = arguments.costs or nil, turn_timeout_ms = to_ms(arguments.turn_timeout),
    history_injection_mode = arguments.injection, first_message = arguments.first_message,
    policies = map_of(arguments.policy),
  }
end

--- Whether a descriptor is a terminal.
---@param descriptor integer  0, 1 or 2
---@return boolean
function M.is_terminal(descriptor) return uv.guess_handle(descriptor) == "tty" end

--- Keeps a line on standard error up to date while something is waited for; on no terminal it does nothing.
---@param describe fun(seconds: integer): string
---@return table progress  a `<close>` variable; `progress:clear()` before other output
function M.progress(describe)
  local progress, shown = {}, false
  function progress.clear()
    if shown then io.stderr:write "\r\27[K" end
    shown = false
  end
  local ticker
  if M.is_terminal(2) then
    local began = clock.now()
    ticker = clock.every(1000, function()
      io.stderr:write("\r\27[K", describe(math.floor((clock.now() - began) / 1000)))
      io.stderr:flush()
      shown = true
    end)
  end
  return setmetatable(progress, { __close = function()
    if ticker then ticker:close() end
    progress.clear()
  end })
end

--- Writes to standard output; see `parley.command.stdout`.
M.write = stdout.write

--- Reads a file, or standard input for `-`.
---@param path string
---@return string text
--- Raises `ValueError`.
function M.read(path)
  if path == "-" then return stdin.read() end
  local text, problem = files.read(path)
  if not text then error(errors.value_error(("cannot read '%s': %s"):format(path, problem)), 0) end
  return text
end

return M
