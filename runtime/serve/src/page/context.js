// Contexts as text: which kind it is, and what is wrong with it, before anything is sent.

import { isGrid } from "./grid.js";

const problem = (at, message) => ({ at, message });

function ofGrid(grid, at) {
  return isGrid(grid) ? [] : [problem(at, "expected a grid: rows of one length, of colours 0 to 9, 30 by 30 at most")];
}

function ofPuzzle(value) {
  const problems = [];
  const examples = (name, least, needsOutput) => {
    const list = value[name];
    if (!Array.isArray(list) || list.length < least) {
      problems.push(problem(name, `expected a list of at least ${least}`));
      return;
    }
    list.forEach((example, at) => {
      problems.push(...ofGrid(example?.input, `${name}[${at}].input`));
      const output = example?.output;
      if (needsOutput || (output !== undefined && output !== null)) problems.push(...ofGrid(output, `${name}[${at}].output`));
    });
  };
  examples("train", 2, true);
  examples("test", 1, false);
  return problems;
}

function ofPassage(value) {
  const isText = (text) => typeof text === "string" && text.trim() !== "";
  const problems = ["title", "context"]
    .filter((name) => !isText(value[name]))
    .map((name) => problem(name, "expected a text"));
  if (!Array.isArray(value.questions) || value.questions.length === 0) {
    return [...problems, problem("questions", "expected a list of at least 1")];
  }
  value.questions.forEach((each, at) => {
    if (!isText(each?.question)) problems.push(problem(`questions[${at}].question`, "expected a text"));
    if (!isText(each?.answer)) problems.push(problem(`questions[${at}].answer`, "expected a text"));
  });
  return problems;
}

/** What a text is: `{ value, domain, problems }`; the domain is missing where it is neither puzzle nor passage. */
export function contextIn(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { problems: [problem("JSON", error.message)] };
  }
  if (typeof value === "object" && value && "train" in value) return { value, domain: "puzzle", problems: ofPuzzle(value) };
  if (typeof value === "object" && value && ("questions" in value || "context" in value)) {
    return { value, domain: "passage", problems: ofPassage(value) };
  }
  const expected = "expected a puzzle (train, test) or a passage (title, context, questions)";
  return { value, problems: [problem("JSON", expected)] };
}
