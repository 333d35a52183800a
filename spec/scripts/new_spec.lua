local uv = require "luv"
local files = require "parley.base.files"
local helper = require "spec.helper"
local policies = require "parley.policy"

describe("parley new", function()
  local folder

  before_each(function() folder = helper.temporary_folder() end)
  after_each(helper.remove_folders)

  local function run(...)
    return helper.run({ helper.host, ... }, { env = helper.environment { HOME = folder, TERM = "dumb" }, cwd = folder })
  end

  local function start(...)
    local program = run("new", ...)
    assert.equal(0, program.status, program.errors)
    return program.output
  end

  it("writes a policy and a spec that passes", helper.task(function()
    assert.equal("quick.lua\n", start("policy", "quick"))
    assert.equal("spec/quick_spec.lua\n", start("spec", "quick"))
    local tested = run "test"
    assert.equal(0, tested.status, tested.output .. tested.errors)
    assert.matches("2 successes / 0 failures / 0 errors", tested.output, 1, true)
    -- And fails when the policy does something else.
    local policy = files.read(folder .. "/quick.lua")
    helper.write(folder .. "/quick.lua", (policy:gsub("SHORT = 80", "SHORT = 1")))
    assert.equal(1, run("test").status)
  end))

  for _, kind in ipairs(policies.names()) do
    it("writes a policy of the kind " .. kind .. ", and a spec that passes and is of it", helper.task(function()
      assert.equal("mine.lua\n", start("policy", "--kind", kind, "mine"))
      assert.equal("spec/mine_spec.lua\n", start("spec", "mine")) -- which policy it is about stands in mine.lua
      local tested = run "test"
      assert.equal(0, tested.status, tested.output .. tested.errors)
      assert.matches("[1-9]%d* success[es]* / 0 failures / 0 errors", tested.output)
      assert.not_equal(start("spec", "other"), "") -- of a routing policy
      local is_routing = kind == "routing"
      local mine, other = files.read(folder .. "/spec/mine_spec.lua"), files.read(folder .. "/spec/other_spec.lua")
      assert.equal(is_routing, mine:gsub("mine", "other") == other)
      -- With the default in its place the spec fails: it is about what the policy decides.
      helper.write(folder .. "/mine.lua", ("local default = require 'parley.policy.%s'\nreturn default\n")
        :format(kind == "injection" and "injection.native_jsonl" or kind))
      assert.equal(1, run("test", "spec/mine_spec.lua").status)
    end))
  end

  it("writes the spec of a kind that is named", helper.task(function()
    assert.equal("spec/guard_spec.lua\n", start("spec", "--kind=permission", "guard"))
    assert.equal("guard.lua\n", start("policy", "guard", "--kind", "permission"))
    assert.equal(0, run("test").status)
  end))

  it("writes them of a name in a folder, with or without .lua", helper.task(function()
    uv.fs_mkdir(folder .. "/policies", 448)
    assert.equal("policies/quick.lua\n", start("policy", "policies/quick.lua"))
    assert.equal("spec/quick_spec.lua\n", start("spec", "policies/quick"))
    local tested = run "test"
    assert.equal(0, tested.status, tested.output .. tested.errors)
  end))

  it("writes a batch that runs", helper.task(function()
    assert.equal("interview.lua\n", start("batch", "interview"))
    local program = run("batch", "interview.lua", "--stand-in")
    assert.equal(0, program.status, program.errors)
    local results = helper.json_lines(program.output)
    assert.same({ "success", "success" }, { results[1].verdict, results[2].verdict })
    assert.equal(4, #results[1].messages)
  end))

  it("writes lines that say what they are about, without a name left open", helper.task(function()
    local beginnings = { { "batch" } }
    for _, kind in ipairs(policies.names()) do
      table.insert(beginnings, { "policy", "--kind", kind })
      table.insert(beginnings, { "spec", "--kind", kind })
    end
    for i, words in ipairs(beginnings) do
      local text = files.read(folder .. "/" .. start(words[1], "n-" .. i, table.unpack(words, 2)):match "%S+")
      assert.matches("^%-%- %u", text)
      assert.not_matches("NAME", text, 1, true)
      assert.not_matches("BASE", text, 1, true)
      assert.is_truthy(load(text))
    end
  end))

  it("overwrites nothing, not even what a link names", helper.task(function()
    helper.write(folder .. "/mine.lua", "mine")
    uv.fs_symlink("nowhere", folder .. "/link.lua")
    for _, name in ipairs { "mine", "link" } do
      local program = run("new", "policy", name)
      assert.equal(1, program.status)
      assert.matches(("'%s.lua' is there already, and is left as it is"):format(name), program.errors, 1, true)
    end
    assert.equal("mine", files.read(folder .. "/mine.lua"))
    assert.is_nil(files.read(folder .. "/nowhere"))
  end))

  it("names a folder for specs that cannot be made", helper.task(function()
    helper.write(folder .. "/spec", "")
    local program = run("new", "spec", "quick")
    assert.equal("parley: ValueError: cannot make the folder 'spec': file already exists\n", program.errors)
    assert.equal(1, program.status)
  end))

  for words, problem in pairs {
    ["policy --kind dialog x"] = "there is no policy 'dialog', but routing, injection, mcp_config, readiness, dialogs, "
      .. "delivery, settling, permission, sleeping; did you mean 'dialogs'?",
    ["batch --kind routing x"] = "--kind is for policies and their specs, and not for a batch",
    ["spec --kind nothing x"] = "there is no policy 'nothing'",
    ["polcy quick"] = "there is no 'polcy' to begin with, but batch, policy, spec; did you mean 'policy'?",
    ["world x"] = "there is no 'world' to begin with, but batch, policy, spec", ["policy"] = "missing argument",
    ["policy a/"] = "'a/' is no name: letters, digits, - and _, and maybe a folder before it",
    ['policy a"b'] = "is no name", ["policy none/x"] = "cannot write 'none/x.lua': no such file or directory",
  } do
    it("says of " .. words .. ": " .. problem, helper.task(function()
      local list = {}
      for word in words:gmatch "%S+" do table.insert(list, word) end
      local program = run("new", table.unpack(list))
      assert.equal(1, program.status)
      assert.matches(problem, program.errors, 1, true)
      assert.same({}, files.names(folder))
    end))
  end
end)
