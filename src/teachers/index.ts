// limbeck/teachers: batches in, targets out, whatever the teacher is.
export type { Access, Batches, SharedOptions, TargetLossOptions, TargetsOptions, Teacher, TeacherTarget } from './teacher.js';
export { logitsTeacher, LogitsTeacher, type LogitsOptions, type ModelOutput } from './logits.js';
export { textTeacher, TextTeacher, type TextOptions, type TextReport, type TextSequence } from './text.js';
export { readVocabulary, vocabulary, Vocabulary, type TokenEncoding, type VocabularyOptions } from './vocabulary.js';
export type { AnswerFormat } from './answers.js';
export type { AnswerReport } from './rows.js';
export {
  answersTeacher,
  AnswersTeacher,
  readAnswers,
  type AnswerOptions,
  type ReadAnswersOptions,
  type RecordedAnswer,
} from './recorded.js';
export { apiTeacher, ApiTeacher, type ApiOptions, type ApiProgress, type ApiRequest } from './api.js';
export { EndpointError } from './endpoint.js';
