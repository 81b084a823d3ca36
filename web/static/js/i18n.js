// The page's texts: Portuguese, or English when the browser's language is English.

import { language } from "./browser.js";
import { inPortuguese } from "./reasons.js";

const pt = {
  connecting: "Conectando…",
  connected: "Conectado",
  reconnecting: "Sem conexão com a sala. Tentando de novo…",
  offline: "Sem internet. O que você escrever fica guardado.",
  draining: "O servidor vai reiniciar; mudando para outro…",
  message: "Mensagem",
  messages: "Mensagens",
  placeholder: "Digite sua mensagem...",
  send: "Enviar",
  hint: "Enter envia, Shift+Enter quebra a linha.",
  left: (n) => `${n} de sobra`,
  tooMany: (n) => (n === 1 ? "1 caractere a mais" : `${n} caracteres a mais`),
  pending: "enviando",
  waiting: "na fila, espera a conexão",
  sent: "enviada",
  failed: "Não enviada",
  retry: "Tentar de novo",
  discard: "Descartar",
  you: "você",
  peopleTitle: "Pessoas",
  people: (n) => (n === 1 ? "1 pessoa aqui" : `${n} pessoas aqui`),
  rest: (n) => (n === 1 ? "e mais 1" : `e mais ${n}`),
  typingOne: (a) => `${a} está digitando…`,
  typingTwo: (a, b) => `${a} e ${b} estão digitando…`,
  typingMany: "Várias pessoas estão digitando…",
  newMessages: "Novas mensagens",
  newestCount: (n) => (n === 1 ? "1 nova mensagem" : `${n} novas mensagens`),
  newest: "Ir para o fim",
  beginning: "Aqui começa a conversa",
  loading: "Carregando mensagens anteriores…",
  empty: "Ninguém disse nada ainda. Diga oi!",
  restarted: "A conversa recomeçou: o histórico de antes não existe mais.",
  gap: "Algumas mensagens deste período já foram apagadas pela retenção da sala.",
  unreadable: "Esta mensagem não pode ser mostrada.",
  reloaded: "Você ficou fora por muito tempo; a conversa foi recarregada.",
  twin: (name) => `Você também está aqui em outra janela, como ${name}.`,
  dismiss: "Fechar",
  close: "Fechar",
  twinAction: "Ser outra pessoa nesta janela",
  askName: "Qual é o seu nome?",
  askNameWhy: "É o nome que os outros veem junto das suas mensagens.",
  name: "Nome",
  yourName: "Seu nome",
  changeName: "Mudar de nome:",
  somebodyElse: "Ser outra pessoa, só nesta janela",
  cancel: "Cancelar",
  noName: "Entrar sem nome",
  enter: "Entrar",
  save: "Salvar",
  nameTooLong: (n) => `No máximo ${n} caracteres.`,
  account: "Conta:",
  accountTitle: "Sua conta",
  signedInAs: (account) => `Você fez login como ${account}.`,
  signedInByProxy: "O seu login foi feito antes desta página, por quem cuida do acesso à sala.",
  signIn: "Fazer login",
  signInInstead: "Fazer login com a sua conta",
  signInAgain: "Fazer login de novo",
  signInToWrite: "Fazer login para escrever",
  signOut: "Sair",
  signedOut: "Sem login",
  otherAccount: "Usar outra conta",
  asGuest: "Continuar como convidado",
  tryAgain: "Tentar de novo",
  reload: "Recarregar a página",
  guest: "convidado",
  readOnly: "Aqui você pode ler, mas não escrever.",
  unsent: (n) => (n === 1 ? "1 mensagem ainda não enviada será descartada." : `${n} mensagens ainda não enviadas serão descartadas.`),
  expiring: "O seu login está para vencer. Faça login de novo para continuar; o que você escreveu fica guardado.",
  ended: "O seu login venceu. Faça login de novo para continuar; o que você escreveu fica guardado.",
  gate: {
    signIn: { title: "Faça login para entrar", words: () => "Esta sala é só para quem faz login." },
    ended: { title: "O seu login venceu", words: (account) => `${account ? `Você entrou como ${account}. ` : ""}Faça login de novo para continuar; o que você escreveu fica guardado.` },
    refused: { title: "A sala não aceita o seu login" },
    forbidden: {
      title: "Você não pode entrar nesta sala",
      words: (account) => `${account ? `Você fez login como ${account}. ` : ""}Quem administra a sala decide quem pode entrar.`,
    },
    closed: { title: "Esta sala é só para quem faz login", words: () => "Esta página não tem como fazer o seu login. Quem administra a sala sabe por onde entrar." },
  },
  signInProblem: {
    cancelled: () => "O login foi cancelado.",
    refused: (detail) => `O serviço de login recusou o pedido${detail ? `: ${detail}` : "."}`,
    unreachable: (host) => `O serviço de login ${host} não responde a esta página. Tente de novo daqui a pouco.`,
    failed: () => "Não foi possível concluir o login. Tente de novo.",
    insecure: () => "O login precisa de um endereço seguro, com https://.",
    storage: () => "O navegador não deixa esta página guardar nada, e por isso o login não pode ser feito.",
  },
  code: {
    bad_request: "o servidor não entendeu o pedido",
    empty_text: "a mensagem está vazia",
    text_too_long: "a mensagem é longa demais para esta sala",
    invalid_id: "o servidor não aceitou o identificador",
    invalid_name: "este nome não pode ser usado aqui",
    unauthenticated: "a sala é só para quem faz login",
    forbidden: "você não tem permissão para isso nesta sala",
    token_expired: "o seu login venceu",
    name_taken: "este nome é de alguém que fez login",
    issuer_unreachable: "o serviço de login não responde. Tentando de novo…",
    proxy_sign_in: "o seu acesso venceu. Recarregue a página para fazer login de novo.",
    invalid_token: "o servidor não aceitou o segredo deste navegador",
    rate_limited: "mensagens demais em pouco tempo",
    server_full: "a sala está cheia. Tentando de novo…",
    address_full: "há conexões demais do seu endereço de rede. Tentando de novo…",
    draining: "o servidor está reiniciando",
    timeout: "a sala não confirmou a tempo",
    unavailable: "a sala está fora do ar",
    not_accepted: "o broker da sala não aceita esta mensagem",
    unknown: "o servidor recusou o pedido",
    forbidden_origin: () => `o servidor não aceita conexões da origem ${location.origin}. Quem administra a sala precisa permitir essa origem.`,
    unknown_host: () => `o servidor não atende pelo endereço ${location.host}. Quem administra a sala precisa permitir esse endereço.`,
  },
};

const en = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "No connection to the room. Trying again…",
  offline: "No internet. What you write is kept.",
  draining: "The server is about to restart; moving to another…",
  message: "Message",
  messages: "Messages",
  placeholder: "Type your message...",
  send: "Send",
  hint: "Enter sends, Shift+Enter breaks the line.",
  left: (n) => `${n} left`,
  tooMany: (n) => (n === 1 ? "1 character too many" : `${n} characters too many`),
  pending: "sending",
  waiting: "queued until connected",
  sent: "sent",
  failed: "Not sent",
  retry: "Try again",
  discard: "Discard",
  you: "you",
  peopleTitle: "People",
  people: (n) => (n === 1 ? "1 person here" : `${n} people here`),
  rest: (n) => `and ${n} more`,
  typingOne: (a) => `${a} is typing…`,
  typingTwo: (a, b) => `${a} and ${b} are typing…`,
  typingMany: "Several people are typing…",
  newMessages: "New messages",
  newestCount: (n) => (n === 1 ? "1 new message" : `${n} new messages`),
  newest: "Go to the end",
  beginning: "The conversation begins here",
  loading: "Loading earlier messages…",
  empty: "Nobody has said anything yet. Say hi!",
  restarted: "The conversation has started anew: its earlier history is gone.",
  gap: "Some messages from this time were already removed by the room's retention.",
  unreadable: "This message cannot be shown.",
  reloaded: "You were away for long; the conversation was loaded again.",
  twin: (name) => `You are also here in another window, as ${name}.`,
  dismiss: "Dismiss",
  close: "Close",
  twinAction: "Be somebody else in this window",
  askName: "What is your name?",
  askNameWhy: "It is the name others see next to your messages.",
  name: "Name",
  yourName: "Your name",
  changeName: "Change name:",
  somebodyElse: "Be somebody else, in this window only",
  cancel: "Cancel",
  noName: "Enter without a name",
  enter: "Enter",
  save: "Save",
  nameTooLong: (n) => `At most ${n} characters.`,
  account: "Account:",
  accountTitle: "Your account",
  signedInAs: (account) => `You are signed in as ${account}.`,
  signedInByProxy: "You were signed in before this page, by whoever guards the way to the room.",
  signIn: "Sign in",
  signInInstead: "Sign in with your account",
  signInAgain: "Sign in again",
  signInToWrite: "Sign in to write",
  signOut: "Sign out",
  signedOut: "Not signed in",
  otherAccount: "Use another account",
  asGuest: "Go on as a guest",
  tryAgain: "Try again",
  reload: "Reload the page",
  guest: "guest",
  readOnly: "You can read here, but not write.",
  unsent: (n) => (n === 1 ? "1 message that is not sent yet will be discarded." : `${n} messages that are not sent yet will be discarded.`),
  expiring: "Your sign-in is about to expire. Sign in again to go on; what you have written is kept.",
  ended: "Your sign-in has expired. Sign in again to go on; what you have written is kept.",
  gate: {
    signIn: { title: "Sign in to enter", words: () => "This room is only for people who are signed in." },
    ended: { title: "Your sign-in has expired", words: (account) => `${account ? `You were signed in as ${account}. ` : ""}Sign in again to go on; what you have written is kept.` },
    refused: { title: "The room does not accept your sign-in" },
    forbidden: {
      title: "You may not enter this room",
      words: (account) => `${account ? `You are signed in as ${account}. ` : ""}The room's administrator decides who may enter.`,
    },
    closed: { title: "This room is only for people who are signed in", words: () => "This page cannot sign you in. The room's administrator knows the way." },
  },
  signInProblem: {
    cancelled: () => "The sign-in was cancelled.",
    refused: (detail) => `The sign-in service rejected the request${detail ? `: ${detail}` : "."}`,
    unreachable: (host) => `The sign-in service ${host} does not answer this page. Try again in a while.`,
    failed: () => "The sign-in could not be completed. Try again.",
    insecure: () => "Signing in needs a secure address, with https://.",
    storage: () => "The browser lets this page store nothing, so you cannot sign in.",
  },
  code: {
    bad_request: "the server did not understand the request",
    empty_text: "the message is empty",
    text_too_long: "the message is too long for this room",
    invalid_id: "the server did not accept the identifier",
    invalid_name: "this name cannot be used here",
    unauthenticated: "the room is only for people who are signed in",
    forbidden: "you are not allowed to do this in this room",
    token_expired: "your sign-in has expired",
    name_taken: "this name belongs to somebody who is signed in",
    issuer_unreachable: "the sign-in service does not answer. Trying again…",
    proxy_sign_in: "your access has expired. Reload the page to sign in again.",
    invalid_token: "the server did not accept the secret of this browser",
    rate_limited: "too many messages in a short time",
    server_full: "the room is full. Trying again…",
    address_full: "too many connections come from your network address. Trying again…",
    draining: "the server is restarting",
    timeout: "the room did not confirm in time",
    unavailable: "the room is out of service",
    not_accepted: "the broker of the room does not accept this message",
    unknown: "the server rejected the request",
    forbidden_origin: () => `the server accepts no connections from the origin ${location.origin}. The room's administrator must allow this origin.`,
    unknown_host: () => `the server is not reached as ${location.host}. The room's administrator must allow this host.`,
  },
};

const browser = language();
const isEnglish = /^en\b/i.test(browser);
const words = isEnglish ? en : pt;

/** The locale for Intl: the browser's variant of the page's language. */
export const locale = isEnglish || /^pt\b/i.test(browser) ? browser : "pt-BR";

/** The text for `key`, with its values filled in. */
export function t(key, ...values) {
  const entry = words[key];
  return typeof entry === "function" ? entry(...values) : entry;
}

/** The text for a rejection's code. */
export function codeInWords(code) {
  const entry = words.code[code] ?? words.code.unknown;
  return typeof entry === "function" ? entry() : entry;
}

/** The text for a `SignInError`. */
export function signInProblem({ reason, detail }) {
  return words.signInProblem[reason](detail);
}

/** The server's own sentence about a rejection, which is English, in the page's language. */
export function reasonInWords(sentence = "") {
  return isEnglish ? sentence : inPortuguese(sentence);
}

/** Sets the texts of elements that name them in `data-i18n` (text), `data-i18n-placeholder` or `data-i18n-label`. */
export function translate(root) {
  document.documentElement.lang = locale;
  for (const element of root.querySelectorAll("[data-i18n]")) element.textContent = t(element.dataset.i18n);
  for (const element of root.querySelectorAll("[data-i18n-placeholder]")) element.placeholder = t(element.dataset.i18nPlaceholder);
  for (const element of root.querySelectorAll("[data-i18n-label]")) element.setAttribute("aria-label", t(element.dataset.i18nLabel));
}
