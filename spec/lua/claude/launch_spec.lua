local core = require "parley.core"
local errors = require "parley.base.errors"
local helper = require "spec.helper"
local launch = require "parley.claude.launch"
local parley = require "parley"
local uv = require "luv"

local ID = "6d1c9e3a-8f62-4a86-9c5e-0f3d2b7a4e11"
local OTHER_ID = "0b7c2f44-51d9-4e0a-b1a3-7c9d8e6f5a22"

---Check the whole argument vector; a session id is given unless the options name one.
local function assert_argv(expected, given)
  if not given.session_id and not given.resume_session_id then given.session_id = ID end
  assert.same(expected, launch.build_argv(given))
end

---Check what the options add behind the session and the permission mode.
local function assert_added(expected, given)
  local argv = { "claude", "--session-id", ID, "--permission-mode", "bypassPermissions", table.unpack(expected) }
  assert_argv(argv, given)
end

---Check that the options are refused, and which one is named.
local function assert_refused(name, given)
  for _, build in ipairs { launch.build_argv, launch.build_env } do
    local ok, err = pcall(build, given)
    assert.is_false(ok, "was accepted")
    assert.is_true(errors.is(err, "ValueError"), tostring(err))
    assert.equal(name, err.option)
  end
end

describe("build_argv", function()
  it("begins with the executable, the session and the default permission mode", function()
    assert_argv({ "claude", "--session-id", ID, "--permission-mode", "bypassPermissions" }, {})
    assert_argv({ "/opt/claude", "--session-id", ID, "--permission-mode", "bypassPermissions" },
      { executable = "/opt/claude" })
  end)

  it("makes a session id, another one each time, when none is given", function()
    local one, two = launch.build_argv {}, launch.build_argv {}
    assert.equal("--session-id", one[2])
    assert.is_true(core.uuid.is_valid(one[3]))
    assert.matches("^%x+%-%x+%-4", one[3])
    assert.not_equal(one[3], two[3])
  end)

  it("resumes with --resume and without --session-id", function()
    assert_argv({ "claude", "--resume", ID, "--permission-mode", "bypassPermissions" }, { resume_session_id = ID })
  end)

  it("forks with both", function()
    assert_argv({ "claude", "--resume", ID, "--fork-session", "--session-id", OTHER_ID, "--permission-mode",
      "bypassPermissions" }, { resume_session_id = ID, fork_session = true, session_id = OTHER_ID })
  end)

  it("passes every permission mode", function()
    for _, mode in ipairs { "acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan" } do
      assert_argv({ "claude", "--session-id", ID, "--permission-mode", mode }, { permission_mode = mode })
    end
  end)

  it("skips permissions dangerously instead of any mode", function()
    assert_argv({ "claude", "--session-id", ID, "--dangerously-skip-permissions" },
      { dangerously_skip_permissions = true })
    assert_argv({ "claude", "--resume", ID, "--dangerously-skip-permissions" },
      { dangerously_skip_permissions = true, resume_session_id = ID })
    assert_argv({ "claude", "--session-id", ID, "--dangerously-skip-permissions" },
      { dangerously_skip_permissions = true, permission_mode = "plan" })
  end)

  it("does not skip permissions for false", function()
    assert_added({}, { dangerously_skip_permissions = false })
  end)

  it("passes the options that are set, and only those", function()
    assert_added({ "--model", "opus" }, { model = "opus" })
    assert_added({ "--system-prompt", "Be brief." }, { system_prompt = "Be brief." })
    assert_added({ "--append-system-prompt", "Be kind." }, { append_system_prompt = "Be kind." })
    assert_added({ "--effort", "high" }, { effort = "high" })
    assert_added({ "--settings", "/tmp/settings.json" }, { settings = "/tmp/settings.json" })
  end)

  it("keeps a value as it is: empty, with spaces, lines, a leading dash", function()
    for _, text in ipairs { "", "two words", "two\nlines", "--model", "-p", "'\"$`\\", "日本" } do
      assert_added({ "--system-prompt", text }, { system_prompt = text })
    end
  end)

  it("joins lists of tools with commas", function()
    assert_added({ "--allowedTools", "Read,Bash(git log:*)", "--disallowedTools", "Edit" },
      { allowed_tools = { "Read", "Bash(git log:*)" }, disallowed_tools = { "Edit" } })
  end)

  it("passes --mcp-config once a file", function()
    assert_added({ "--mcp-config", "a.json" }, { mcp_config = "a.json" })
    assert_added({ "--mcp-config", "a.json", "--mcp-config", "b.json" }, { mcp_config = { "a.json", "b.json" } })
  end)

  it("passes --add-dir once with all values", function()
    assert_added({ "--add-dir", "/a" }, { add_dir = "/a" })
    assert_added({ "--add-dir", "/a", "/b", "/c" }, { add_dir = { "/a", "/b", "/c" } })
  end)

  it("leaves out what an empty list names", function()
    assert_added({}, { allowed_tools = {}, disallowed_tools = {}, mcp_config = {}, add_dir = {}, extra_args = {} })
  end)

  it("writes a table of settings as JSON", function()
    local argv = launch.build_argv { session_id = ID, settings = { env = { A = "1" } } }
    assert.equal("--settings", argv[6])
    assert.same({ env = { A = "1" } }, core.json.decode(argv[7]))
  end)

  it("has one order, extra arguments last", function()
    assert_argv({
      "claude", "--session-id", ID, "--permission-mode", "plan", "--model", "m", "--system-prompt", "s",
      "--append-system-prompt", "a", "--allowedTools", "x,y", "--disallowedTools", "z", "--mcp-config", "c",
      "--add-dir", "d", "e", "--effort", "low", "--settings", "{}", "--verbose", "--agents", "{}",
    }, {
      permission_mode = "plan", model = "m", system_prompt = "s", append_system_prompt = "a",
      allowed_tools = { "x", "y" }, disallowed_tools = { "z" }, mcp_config = { "c" }, add_dir = { "d", "e" },
      effort = "low", settings = "{}", extra_args = { "--verbose", "--agents", "{}" },
    })
  end)

  it("never prints: extra arguments that would are refused", function()
    for _, flag in ipairs { "--print", "-p", "--output-format", "--output-format=json", "--input-format" } do
      assert_refused("extra_args", { extra_args = { "--verbose", flag } })
    end
  end)

  it("does not change the caller's table", function()
    local given = { allowed_tools = { "Read" }, extra_args = { "--verbose" } }
    launch.build_argv(given)
    assert.same({ allowed_tools = { "Read" }, extra_args = { "--verbose" } }, given)
  end)
end)

describe("the options of a process", function()
  it("refuse a session id together with one to resume", function()
    assert_refused("resume_session_id", { session_id = ID, resume_session_id = OTHER_ID })
  end)

  it("refuse session ids that are no UUIDs", function()
    for _, text in ipairs { "", "x", "../../etc/passwd", ID .. "/", ID .. "\n", ID:sub(2) } do
      assert_refused("session_id", { session_id = text })
      assert_refused("resume_session_id", { resume_session_id = text })
    end
  end)

  it("refuse a fork of nothing", function()
    assert_refused("fork_session", { fork_session = true })
  end)

  it("refuse an unknown permission mode", function()
    for _, mode in ipairs { "yolo", "", "Plan" } do assert_refused("permission_mode", { permission_mode = mode }) end
  end)

  it("refuse dimensions that no screen has", function()
    local refused = {
      { rows = 0, columns = 80 }, { rows = 24, columns = -1 }, { rows = 24 }, { 24 }, {}, { 24, 80.5 }, { 24, "80" },
      { rows = 24, columns = 1001 }, { rows = 1001, columns = 80 }, { rows = 24, columns = 39 },
      { rows = 19, columns = 80 }, { 10, 20 }, { 3, 40 },
      { rows = 24, columns = 80, depth = 1 }, { 24, 80, 1 },
    }
    for _, dimensions in ipairs(refused) do assert_refused("dimensions", { dimensions = dimensions }) end
    local _, err = pcall(launch.check, { dimensions = { 10, 20 } })
    assert.equal("parley.process: option 'dimensions' must be {rows, columns}, integers of 20 to 1000 rows and "
      .. "40 to 1000 columns", err.message)
  end)

  it("take dimensions by name or by place, 40 by 120 by default", function()
    assert.same({ rows = 24, columns = 80 }, launch.check({ dimensions = { rows = 24, columns = 80 } }).dimensions)
    assert.same({ rows = 24, columns = 80 }, launch.check({ dimensions = { 24, 80 } }).dimensions)
    assert.same({ rows = 20, columns = 40 }, launch.check({ dimensions = { 20, 40 } }).dimensions)
    assert.same({ rows = 1000, columns = 1000 }, launch.check({ dimensions = { 1000, 1000 } }).dimensions)
    assert.same({ rows = 40, columns = 120 }, launch.check({}).dimensions)
  end)

  it("refuse NUL bytes in whatever becomes an argument, a variable or a path", function()
    for _, name in ipairs { "executable", "cwd", "model", "system_prompt", "append_system_prompt", "mcp_config",
      "add_dir", "effort", "settings" } do
      assert_refused(name, { [name] = "a\0b" })
    end
    for _, name in ipairs { "allowed_tools", "disallowed_tools", "extra_args", "mcp_config", "add_dir" } do
      assert_refused(name, { [name] = { "a", "b\0" } })
    end
    for _, name in ipairs { "extra_env", "base_env" } do assert_refused(name, { [name] = { A = "\0" } }) end
  end)

  it("refuse the mode for screen readers, which cannot be read here", function()
    for _, value in ipairs { "1", "true", "yes" } do
      assert_refused("extra_env", { extra_env = { CLAUDE_AX_SCREEN_READER = value } })
    end
    for _, word in ipairs { "--ax-screen-reader", "--ax-screen-reader=true" } do
      assert_refused("extra_args", { extra_args = { "--verbose", word } })
    end
    launch.check { extra_env = { CLAUDE_AX_SCREEN_READER = "0" } }
  end)

  it("refuse to have the program make a worktree, whose transcript would be looked for elsewhere", function()
    for _, word in ipairs { "--worktree", "--worktree=wt", "-w" } do
      assert_refused("extra_args", { extra_args = { word, "wt" } })
    end
  end)

  it("refuse an environment in which no transcript is written, wherever it comes from", function()
    local name = "CLAUDE_CODE_SKIP_PROMPT_HISTORY"
    local function try(base, own)
      local ok, err = pcall(launch.check_environment, { base_env = base, extra_env = own }, "here")
      return ok or errors.is(err, "ValueError") and err.message
    end
    for _, value in ipairs { "1", "True", "yes" } do
      assert.matches("^here: .*" .. name, try({ [name] = value }))
      assert.matches("^here: .*" .. name, try({}, { [name] = value }))
    end
    for _, value in ipairs { "", "0", "false", "2" } do assert.is_true(try({ [name] = "1" }, { [name] = value })) end
    assert.is_true(try {})
  end)

  it("is refused in a backend, before anything is started", function()
    local ok, err = pcall(require("parley").backend, { extra_env = { CLAUDE_CODE_SKIP_PROMPT_HISTORY = "1" } })
    assert.is_false(ok)
    assert.equal("ValueError", err.code)
  end)

  it("refuse what is no variable's name", function()
    for _, variable in ipairs { "", "=", "A=B", "A\0" } do
      assert_refused("extra_env", { extra_env = { [variable] = "x" } })
      assert_refused("base_env", { base_env = { [variable] = "x" } })
    end
  end)

  it("refuse settings that JSON cannot hold", function()
    assert_refused("settings", { settings = { env = { A = print } } })
    local itself = {}
    itself.itself = itself
    assert_refused("settings", { settings = itself })
    assert.equal([[{"a":"\u0000"}]], launch.build_argv({ settings = { a = "\0" } })[7])
  end)

  it("refuse unknown names, with the near one", function()
    assert_refused("modle", { modle = "opus" })
    local _, err = pcall(launch.build_argv, { modle = "opus" })
    assert.equal("parley.build_argv has no option 'modle'; did you mean 'model'?", err.message)
  end)

  it("refuse wrong types", function()
    local refused = {
      executable = 5, cwd = true, model = {}, allowed_tools = "Read", disallowed_tools = { 1 },
      mcp_config = { a = "b" }, add_dir = 5, settings = 5, extra_args = "--verbose", dimensions = "40x120",
      preserve_provider_env = "yes", extra_env = { 1 }, base_env = "A=1", capture_limit = 0,
      dangerously_skip_permissions = 1, session_id = 5,
    }
    for name, value in pairs(refused) do assert_refused(name, { [name] = value }) end
  end)
end)

describe("check_files", function()
  local folder
  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  local function check(mcp_config) launch.check_files({ mcp_config = mcp_config, cwd = folder }, "parley.thing") end

  it("takes files that can be read, counted from the program's folder, and JSON", function()
    helper.write(folder .. "/servers.json", "{}")
    check "servers.json"
    check { folder .. "/servers.json", '{"mcpServers":{}}', " {}" }
    check(nil)
    check {}
  end)

  it("refuses others, and names them", function()
    for given, why in pairs { ["missing.json"] = "No such file or directory", [folder] = "Is a directory",
      ["/missing.json"] = "No such file or directory", [""] = "Is a directory" } do
      local ok, err = pcall(check, { "{}", given })
      assert.is_false(ok)
      assert.is_true(errors.is(err, "ValueError"), tostring(err))
      assert.equal("mcp_config", err.option)
      assert.equal(("parley.thing: option 'mcp_config' names a file that cannot be read: '%s': %s"):format(given, why),
        err.message)
    end
  end)

  it("is asked before anything is made", function()
    for _, make in ipairs { parley.process, parley.session, parley.backend } do
      local ok, err = pcall(make, { cwd = folder, mcp_config = "missing.json" })
      assert.is_false(ok)
      assert.equal("mcp_config", err.option)
    end
  end)
end)

describe("build_env", function()
  local base = { PATH = "/bin", HOME = "/home/me", ANTHROPIC_MODEL = "opus" }

  ---The environment that a base with these variables more gives.
  local function build(more, given)
    given = given or {}
    given.base_env = {}
    for name, value in pairs(base) do given.base_env[name] = value end
    for name, value in pairs(more) do given.base_env[name] = value end
    return launch.build_env(given)
  end

  it("starts from the given base", function()
    assert.same({ PATH = "/bin", HOME = "/home/me", ANTHROPIC_MODEL = "opus", TERM = "xterm-256color", NO_COLOR = "1",
      CLAUDE_AX_SCREEN_READER = "0" }, build {})
  end)

  it("starts from the host's without one", function()
    local environment = launch.build_env {}
    assert.equal(os.getenv "PATH", environment.PATH)
    assert.equal(os.getenv "HOME", environment.HOME)
  end)

  it("names a config folder that is relative from the program's folder on", function()
    assert.equal("/usr/c", build({ CLAUDE_CONFIG_DIR = "c" }, { cwd = "/usr" }).CLAUDE_CONFIG_DIR)
    assert.equal(uv.cwd() .. "/c", build({}, { extra_env = { CLAUDE_CONFIG_DIR = "c" } }).CLAUDE_CONFIG_DIR)
    assert.equal("c", build({ CLAUDE_CONFIG_DIR = "c" }, { cwd = "/none/such" }).CLAUDE_CONFIG_DIR)
    assert.equal("/c/", build({ CLAUDE_CONFIG_DIR = "/c/" }).CLAUDE_CONFIG_DIR)
  end)

  it("has no empty config folder, which the program takes for the folder where it works", function()
    assert.is_nil(build({ CLAUDE_CONFIG_DIR = "" }).CLAUDE_CONFIG_DIR)
    assert.is_nil(build({ CLAUDE_CONFIG_DIR = "/c" }, { extra_env = { CLAUDE_CONFIG_DIR = "" } }).CLAUDE_CONFIG_DIR)
  end)

  it("sets the terminal and no colours, whatever the base says", function()
    local environment = build { TERM = "dumb", NO_COLOR = "", CLAUDE_AX_SCREEN_READER = "1" }
    assert.same({ "xterm-256color", "1", "0" },
      { environment.TERM, environment.NO_COLOR, environment.CLAUDE_AX_SCREEN_READER })
  end)

  local provider = {
    "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "ANTHROPIC_BEDROCK_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL",
    "AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_CUSTOM_HEADERS",
  }

  it("drops what chooses another provider", function()
    for _, name in ipairs(provider) do assert.is_nil(build({ [name] = "x" })[name], name) end
  end)

  it("keeps it with preserve_provider_env", function()
    for _, name in ipairs(provider) do
      assert.equal("x", build({ [name] = "x" }, { preserve_provider_env = true })[name])
    end
  end)

  it("drops what an outer session left, with preserve_provider_env, too", function()
    local outer = {
      "CLAUDECODE", "CLAUDE_CODE_CHILD_SESSION", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID",
      "CLAUDE_CODE_SSE_PORT",
    }
    for _, name in ipairs(outer) do
      assert.is_nil(build({ [name] = "1" })[name], name)
      assert.is_nil(build({ [name] = "1" }, { preserve_provider_env = true })[name], name)
    end
  end)

  it("keeps the program's other settings", function()
    for _, name in ipairs { "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_MAX_RETRIES", "DISABLE_AUTOUPDATER", "AWS_PROFILE" } do
      assert.equal("/x", build({ [name] = "/x" })[name])
    end
  end)

  it("lets extra_env win over all of it", function()
    local extra = { TERM = "vt100", NO_COLOR = "", ANTHROPIC_API_KEY = "k", CLAUDECODE = "1", PATH = "/x", NEW = "n" }
    local environment = build({ ANTHROPIC_API_KEY = "old" }, { extra_env = extra })
    for name, value in pairs(extra) do assert.equal(value, environment[name]) end
  end)

  it("changes neither the base nor the extra variables", function()
    local base_env, extra_env = { ANTHROPIC_API_KEY = "k" }, { A = "1" }
    launch.build_env { base_env = base_env, extra_env = extra_env }
    assert.same({ ANTHROPIC_API_KEY = "k" }, base_env)
    assert.same({ A = "1" }, extra_env)
  end)
end)
