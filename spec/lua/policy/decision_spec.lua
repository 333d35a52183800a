local decision = require "parley.policy.decision"
local helper = require "spec.helper"
local parley = require "parley"
local testing = require "parley.testing"

local PERMISSION = { kind = "permission", text = "x",
  choices = { "Yes", "Yes, and don't ask again", "No, tell Claude" } }
local SECURITY = { kind = "onboarding", text = "Security notes:", choices = {} }
local OTHER = { kind = "unknown", text = "x", choices = { "Left", "Right", "Nowhere" } }

describe("a decision about a dialog", function()
  for what, case in pairs {
    ["allows by the choice that is known to"] = { { allow = true }, PERMISSION, { choose = 1 } },
    ["allows by a key where there is no choice"] = { { allow = true }, SECURITY, { keys = "\r" } },
    ["denies by the choice that says No"] = { { deny = "not here" }, PERMISSION, { choose = 3, denied = "not here" } },
    ["denies what has no such choice by failing, with the reason"] = { { deny = "not here" }, OTHER,
      { fail = "not here" } },
    ["denies a server's form by ESC"] = { { deny = "not here" }, { kind = "elicitation", text = "x", choices = {} },
      { keys = "\27", denied = "not here" } },
    ["denies by ESC what auto mode cannot check"] = { { deny = "not here" }, { kind = "auto_check", text = "x",
      choices = {} }, { keys = "\27", denied = "not here" } },
    ["chooses by number"] = { { choose = 2 }, PERMISSION, { choose = 2 } },
    ["chooses by label"] = { { choose = "Yes" }, PERMISSION, { choose = 1 } },
    ["chooses by the beginning of a label"] = { { choose = "No" }, PERMISSION, { choose = 3 } },
    ["presses keys"] = { { keys = "\27" }, PERMISSION, { keys = "\27" } },
    ["gives up"] = { { fail = "no" }, PERMISSION, { fail = "no" } },
  } do
    it(what, function() assert.same(case[3], decision.resolve(case[1], case[2])) end)
  end

  for what, case in pairs {
    ["says nothing"] = { {}, PERMISSION, "says nothing" },
    ["allows nothing"] = { { allow = false }, PERMISSION, "says nothing" },
    ["says two things"] = { { allow = true, deny = "x" }, PERMISSION, "several things" },
    ["allows what nobody knows how to"] = { { allow = true }, OTHER, "no choice known to allow it" },
    ["chooses a label that is not there"] = { { choose = "Up" }, OTHER,
      '^one that chooses "Up", where the choices are: 1 "Left", 2 "Right", 3 "Nowhere"$' },
    ["chooses one that two begin with"] = { { choose = "Y" }, PERMISSION, '^one that chooses "Y", where' },
    ["chooses a number that is not there"] = { { choose = 4 }, PERMISSION, "^one that chooses 4, where" },
    ["chooses where nothing is to choose"] = { { choose = 1 }, SECURITY, "chooses 1, where the choices are: none" },
  } do
    it("is wrong where it " .. what, function()
      local concrete, wrong = decision.resolve(case[1], case[2])
      assert.is_nil(concrete)
      assert.matches(case[3], wrong)
    end)
  end

  it("is carried out on the program", helper.task(function()
    for answer, subtype in pairs { allow = "success", deny = "interrupted" } do
      local kit <close> = testing.kit()
      kit.options.permission_mode = "default"
      kit.options.policies = { dialogs = { decide = function()
        return answer == "allow" and { allow = true } or { deny = "not here" }
      end } }
      local backend <close> = parley.backend(kit.options)
      assert.equal(subtype, backend:conversation():send("TOUCH"):result().subtype)
    end
  end))
end)
